"""The second half of break-glass: once the API server answers, the operators are told, and agree.

An override that a person set on the routers is in nobody's status. It is named to the operators in an annotation of the
AgentRollout; their plan takes the candidate back for it as for any other trigger. From then on the split itself serves
stable alone, and the override is not needed any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError

from controller.api.reasons import ConditionType
from controller.api.rollout import AgentRollout
from controller.api.status import CandidateRef
from controller.core.rules.rollback import BREAK_GLASS, attempt_name
from controller.reconcilers.observed import in_words
from controller.runtime.client import ResourceClient
from controller.runtime.errors import TooManyRequests, Unavailable
from controller.runtime.store import InvalidObjectError

FIELD_MANAGER = "agentrollout-break-glass"

_PAUSE_SECONDS = 0.5

SETTLED_SECONDS = 35.0
"""How long status must say so without interruption. What a replica that died said of its routers counts for up to 30 s, and
a router that still has the old split must not be let go back to it."""

T = TypeVar("T")


async def agree(client: ResourceClient, key: str, say: Callable[[str], None]) -> None:
    """Have the operators take back the candidate of the rollout ``namespace/name``; return when the routers have it so.

    Args:
        client: For AgentRollouts, with a field manager of its own.
        key: The rollout.
        say: Hears what is waited for; an API server and operators that are away are waited for without end.

    Raises:
        ApiError: If the API server answers and refuses.
        InvalidObjectError: If the rollout cannot be read; the message names its broken fields.
    """
    rollout = await _patiently(lambda: _get(client, key), say)
    candidate = rollout.status.candidate
    if candidate is not None:
        namespace, name = rollout.metadata.namespace, rollout.metadata.name
        annotations = {BREAK_GLASS: attempt_name(candidate)}
        wanted = {"metadata": {"namespace": namespace, "name": name, "annotations": annotations}}
        await _patiently(lambda: client.apply(wanted, force=True), say)
        say(f"the operators are told to take {candidate.revision} back; waiting until they have")
    calm = 0.0
    while calm < SETTLED_SECONDS:
        await asyncio.sleep(_PAUSE_SECONDS)
        rollout = await _patiently(lambda: _get(client, key), say)
        if not _is_gone(candidate, rollout):
            calm = 0.0
        elif not calm:
            say(f"status shows it; the override is released if that stays so for {SETTLED_SECONDS:g} s")
            calm = _PAUSE_SECONDS
        else:
            calm += _PAUSE_SECONDS


async def _get(client: ResourceClient, key: str) -> AgentRollout:
    found = await client.get(key)
    try:
        return AgentRollout.model_validate(found)
    except ValidationError as error:
        problem = in_words(error.errors(include_url=False, include_input=False))
        raise InvalidObjectError(
            f"{key} cannot be read; mend it, and give the order again: {problem}"
        ) from None


def _is_gone(candidate: CandidateRef | None, rollout: AgentRollout) -> bool:
    """Whether the routers serve a split without the candidate; another one may have come since."""
    programmed = rollout.status.condition(ConditionType.PROGRAMMED)
    if programmed is None or programmed.status != "True":
        return False
    return candidate is None or rollout.status.candidate != candidate


async def _patiently(ask: Callable[[], Awaitable[T]], say: Callable[[str], None]) -> T:
    """Ask until there is an answer."""
    said = False
    while True:
        try:
            return await ask()
        except (Unavailable, TooManyRequests) as error:
            if not said:
                said = True
                say(f"waiting for the API server: {error}")
            await asyncio.sleep(max(error.retry_after or 0.0, _PAUSE_SECONDS))
