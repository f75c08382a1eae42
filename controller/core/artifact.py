"""The artifact ID: equal content has equal ID on every machine."""

from __future__ import annotations

import hashlib

import rfc8785

from controller.api.agent import Agent


def artifact_id(agent: Agent) -> str:
    """``sha256:`` and the hex digest of the agent's canonical JSON (RFC 8785).

    Raises:
        ValueError: If a number cannot be written exactly as JSON (RFC 8785 allows integers up to 2^53).
    """
    try:
        canonical = rfc8785.dumps(agent.model_dump(mode="json", by_alias=True, exclude_none=True))
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"spec.agent cannot be hashed: {error}; write large numbers as text") from error
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def revision_name(rollout: str, artifact: str) -> str:
    """``<rollout>-<first 10 hex of the ID>``."""
    return f"{rollout}-{artifact.removeprefix('sha256:')[:10]}"
