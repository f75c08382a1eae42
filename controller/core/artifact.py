"""The artifact ID: equal content has equal ID on every machine."""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from controller.api.agent import Agent, AgentParts, Protocol


def content(agent: AgentParts) -> dict[str, Any]:
    """The agent as JSON; what is not set is left out, so that a field of a later version changes no ID of before.

    So is the protocol that is meant when none is named.
    """
    found = agent.model_dump(mode="json", by_alias=True, exclude_none=True)
    if not found.get("promptsFrom"):
        found.pop("promptsFrom", None)
    if agent.code.protocol is Protocol.HTTP1:
        del found["code"]["protocol"]
    return found


def artifact_id(agent: AgentParts) -> str:
    """``sha256:`` and the hex digest of the canonical JSON (RFC 8785) of an agent whose references are resolved.

    Raises:
        ValueError: If a number cannot be written exactly as JSON (RFC 8785 allows integers up to 2^53).
    """
    assert not (isinstance(agent, Agent) and agent.prompts_from)  # noqa: S101  see `references.freeze`
    return _hash(agent)


def spec_hash(agent: Agent) -> str:
    """The same of an agent as it is written, with references as references: equal as long as nobody edits it.

    Raises:
        ValueError: As for `artifact_id`.
    """
    return _hash(agent)


def _hash(agent: AgentParts) -> str:
    try:
        return digest(content(agent))
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"spec.agent cannot be hashed: {error}; write large numbers as text") from error


def digest(content: dict[str, Any]) -> str:
    """``sha256:`` and the hex digest of the canonical JSON (RFC 8785).

    Raises:
        rfc8785.CanonicalizationError: If it cannot be written exactly as JSON.
    """
    return f"sha256:{hashlib.sha256(rfc8785.dumps(content)).hexdigest()}"


def revision_name(rollout: str, artifact: str) -> str:
    """``<rollout>-<first 10 hex of the ID>``."""
    return f"{rollout}-{artifact.removeprefix('sha256:')[:10]}"
