"""From the file of ``--judges`` to judges that work."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from controller.adapters.config_files import read_secret
from controller.adapters.judges.checks import ChecksJudge
from controller.adapters.judges.config import JudgeConfig, RubricConfig, read_judges
from controller.adapters.judges.embedding import Alike
from controller.adapters.judges.labelled import read_labelled
from controller.core.artifact import digest
from controller.core.shadow.budget import Ledger, Limit, Spend
from controller.core.shadow.checks import Checks
from controller.core.shadow.health import LabelledPair, Sight
from controller.core.shadow.judgement import Judge, JudgeError
from controller.core.shadow.prompt import Rubric
from controller.runtime.clock import Clock, SystemClock

if TYPE_CHECKING:
    from controller.adapters.judges.endpoint import Endpoint

_RUBRICS = files("controller.adapters.judges") / "rubrics"
_VERSION = "version: "
_CODE = ("core/shadow/checks.py", "core/shadow/reply.py", "core/shadow/similarity.py")
_MODEL_CODE = (
    "core/shadow/opinion.py",
    "core/shadow/prompt.py",
    "adapters/judges/endpoint.py",
    "adapters/judges/llm.py",
)
"""What a verdict depends on in this version of the program."""


class ClosableJudge(Judge, Protocol):
    """A judge that may hold connections."""

    async def close(self) -> None:
        """End them."""


@dataclass(frozen=True, slots=True)
class JudgeHandle:
    """A judge and what goes with it.

    Attributes:
        name: In the file, and in ``spec.shadow.judge``.
        judge: Gives verdicts; any number at once.
        sees: What it claims to see, and is held to.
        labelled: What it is examined with.
        concurrency: As many comparisons at once as it can work on.
        ledger: What it spent; None if it costs nothing.
    """

    name: str
    judge: ClosableJudge
    sees: frozenset[Sight]
    labelled: tuple[LabelledPair, ...]
    concurrency: int
    ledger: Ledger | None

    def restore(self, rollout: str, day: date, tokens: int, cost: float) -> None:
        """What it had spent on that day before this process began."""
        if self.ledger is not None:
            self.ledger.restore(rollout, day, Spend(tokens, cost))

    async def close(self) -> None:
        """End its connections."""
        await self.judge.close()


def load_judges(path: Path | None, *, clock: Clock | None = None) -> dict[str, JudgeHandle]:
    """The judges of a file by name; without one, ``default`` of checks alone.

    Raises:
        ValueError: If a file cannot be read or is not understood, or something is not installed; the message says what.
    """
    return {name: _load(name, config, clock or SystemClock()) for name, config in read_judges(path).items()}


def judge_named(judges: Mapping[str, JudgeHandle], name: str) -> JudgeHandle:
    """The judge that a rollout wants.

    Raises:
        JudgeError: If there is none of that name.
    """
    try:
        return judges[name]
    except KeyError:
        raise JudgeError(
            f"there is no judge {name!r}: spec.shadow.judge can be {', '.join(sorted(judges))}"
        ) from None


def _load(name: str, config: JudgeConfig, clock: Clock) -> JudgeHandle:
    place = f"judges.{name}"
    checks = Checks(tuple(re.compile(pattern) for pattern in config.checks.forbidden))
    alike = _alike(place, config)
    labelled = read_labelled(config.health_set)
    content: dict[str, Any] = {
        "code": _code(*_CODE),
        "forbidden": list(config.checks.forbidden),
        "embedding": alike.content if alike else None,
    }
    if config.budget is None:
        judge = ChecksJudge(digest(content), checks, alike)
        return JudgeHandle(name, judge, frozenset({Sight.FORM}), labelled, config.concurrency, None)
    rubric = _rubric(place, config.rubric)
    content |= {
        "modelCode": _code(*_MODEL_CODE),
        "rubric": [rubric.name, rubric.version, rubric.text],
        "models": [
            [model.url, model.name, model.answers_as, model.max_output_tokens] for model in config.models
        ],
    }
    ledger = Ledger(Limit(config.budget.tokens, config.budget.cost))
    # It takes seconds to import what speaks to models, which judges without one can do without.
    from controller.adapters.judges.llm import LlmJudge  # noqa: PLC0415

    asking = LlmJudge(digest(content), checks, alike, rubric, _chain(config, ledger, clock))
    return JudgeHandle(name, asking, frozenset(Sight), labelled, config.concurrency, ledger)


def _chain(config: JudgeConfig, ledger: Ledger, clock: Clock) -> list[Endpoint]:
    """The models, in the order in which they are asked."""
    for model in config.models:
        if model.api_key_file is not None:
            read_secret(model.api_key_file)
    from controller.adapters.judges.endpoint import Endpoint  # noqa: PLC0415  see above

    at_once = asyncio.Semaphore(config.concurrency)
    return [Endpoint(model, ledger, clock, at_once) for model in config.models]


def _alike(place: str, config: JudgeConfig) -> Alike | None:
    if config.embedding is None:
        return None
    try:
        return Alike(config.embedding.tie_above)
    except ImportError as error:
        raise ValueError(
            f"{place}.embedding needs what is not installed: pip install 'agentrollout[embedding]'"
        ) from error


def _rubric(place: str, wanted: str | RubricConfig) -> Rubric:
    if isinstance(wanted, RubricConfig):
        return Rubric(wanted.name, wanted.version, wanted.text)
    shipped = {entry.name.removesuffix(".md"): entry for entry in _RUBRICS.iterdir()}
    if wanted not in shipped:
        raise ValueError(
            f"{place}.rubric: {wanted!r} is none of {', '.join(sorted(shipped))}; write your own as name, version, text"
        )
    version, _, text = shipped[wanted].read_text("utf-8").partition("\n")
    return Rubric(wanted, version.removeprefix(_VERSION), text.strip())


def _code(*paths: str) -> str:
    """Of sources, so that a changed rule is another judge without anybody having to think of it."""
    package = files("controller")
    return hashlib.sha256(b"".join((package / path).read_bytes() for path in paths)).hexdigest()
