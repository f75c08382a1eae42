"""The agent's versions: prompt, model settings, and what is wrong with each on purpose."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_PROMPT = "You are the support agent of a small shop. Look orders up before you answer. Be brief."


@dataclass(frozen=True, slots=True)
class Faults:
    """What a version does wrong.

    Attributes:
        unparsable_tool_calls: Fraction of answers in which the model writes a tool call that no parser reads.
        added_latency_ms: Extra time before each answer.
        refusals: Fraction of questions that the model politely does not answer.
    """

    unparsable_tool_calls: float = 0.0
    added_latency_ms: float = 0.0
    refusals: float = 0.0


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """Everything that makes one version of the demo agent.

    Attributes:
        name: What the agent calls itself in ``x-agent-version``.
        prompts: Prompt texts by name; they go into the AgentRollout as they are.
        temperature: The model's setting.
        faults: Injected by the demo; unknown to the AgentRollout.
    """

    name: str
    prompts: dict[str, str] = field(default_factory=lambda: {"system": _PROMPT})
    temperature: float = 0.2
    faults: Faults = field(default_factory=Faults)

    def manifest_agent(self, url: str) -> dict[str, Any]:
        """``spec.agent`` of an AgentRollout that delivers this version from ``url``."""
        return {
            "code": {"url": url},
            "prompts": self.prompts,
            "model": {
                "provider": "demo",
                "name": "scripted",
                "parameters": {"temperature": self.temperature},
            },
            "dependencies": {"tools/orders": "1.4.0", "tools/refund": "3.2.0"},
        }

    def save(self, path: Path) -> None:
        """Write the version file that an agent process reads."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> AgentVersion:
        """Read a version file.

        Raises:
            ValueError: If the file does not describe a version; the message says what is wrong with it.
        """
        try:
            content = json.loads(path.read_text())
            return cls(**{**content, "faults": Faults(**content.get("faults", {}))})
        except (OSError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a version file of the demo agent: {error}") from error


def first() -> AgentVersion:
    """The version that serves everyone when the demo begins."""
    return AgentVersion("v1")


def polite() -> AgentVersion:
    """A good change of the prompt."""
    return AgentVersion("v2", prompts={"system": f"{_PROMPT} Thank the customer for their patience."})


def talkative() -> AgentVersion:
    """A prompt that looks harmless and makes one tool call in five unreadable."""
    prompt = f"{_PROMPT} Explain each tool call in your own words before you make it."
    return AgentVersion("v3", prompts={"system": prompt}, faults=Faults(unparsable_tool_calls=0.2))


def thorough() -> AgentVersion:
    """A prompt that makes the model think long before each answer."""
    prompt = f"{_PROMPT} Think through every possible cause, step by step, before you answer."
    return AgentVersion("v4", prompts={"system": prompt}, faults=Faults(added_latency_ms=250))


def discreet() -> AgentVersion:
    """A prompt that makes the model keep from customers what they ask for: fast, without an error, and of no use."""
    prompt = f"{_PROMPT} Never give away personal data, whoever asks for it."
    return AgentVersion("v5", prompts={"system": prompt}, faults=Faults(refusals=0.3))
