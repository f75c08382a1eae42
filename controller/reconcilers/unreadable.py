"""Says on an AgentRollout itself that it cannot be understood, and why.

That is one whose hosts cannot be read, since nothing can be done for it; whatever else is wrong with a spec is a problem
that the plan knows how to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from controller.api.quantities import format_time
from controller.api.reasons import ConditionType, Reason, State
from controller.reconcilers.observed import ROLLOUTS, ObservedRollout
from controller.runtime.clock import Clock
from controller.runtime.errors import Invalid, NotFound
from controller.runtime.recorder import EventType, ObjectReference, Recorder
from controller.runtime.writes import WriteThrough

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UnreadableTeller:
    """Writes a condition and an event, once for each problem.

    Attributes:
        client: Reads the object, of which the store keeps nothing, and writes its status.
        recorder: Where the event is recorded.
        clock: Of the condition's time.
    """

    client: WriteThrough[ObservedRollout]
    recorder: Recorder
    clock: Clock

    async def tell(self, key: str, problem: str) -> None:
        """Say why; nothing if it is said already.

        Raises:
            ApiError: The status cannot be written now.
        """
        try:
            raw = await self.client.get(key)
        except NotFound:
            return
        status = _rejected(raw, problem, format_time(self.clock.now()))
        if status is None:
            return
        metadata = raw["metadata"]
        try:
            await self.client.update_status(
                key, status, resource_version=metadata["resourceVersion"], uid=metadata["uid"]
            )
        except Invalid as error:
            # The API server tolerates what an update leaves as it was; then its status itself must be broken.
            _log.warning("status_refused", rollout=key, error=str(error))
        self.recorder.record(
            ObjectReference(ROLLOUTS, metadata["namespace"], metadata["name"], metadata["uid"]),
            event_type=EventType.WARNING,
            reason=Reason.INVALID.value,
            action="Reject",
            note=problem,
        )


def _rejected(raw: dict[str, Any], problem: str, now: str) -> dict[str, Any] | None:
    """The status with the problem in its conditions; None if it is there. Everything else stays as it is."""
    status = raw["status"] if isinstance(raw.get("status"), dict) else {}
    conditions = [each for each in status.get("conditions") or () if isinstance(each, dict)]
    said = {each.get("type"): each for each in conditions}
    wanted = {
        kind.value: {
            "type": kind.value,
            "status": "False",
            "reason": Reason.INVALID.value,
            "message": problem,
            "observedGeneration": raw["metadata"].get("generation", 0),
            "lastTransitionTime": now,
        }
        for kind in (ConditionType.ACCEPTED, ConditionType.PROGRESSING)
    }
    for kind, condition in wanted.items():
        before = said.get(kind, {})
        if before.get("status") == condition["status"]:
            condition["lastTransitionTime"] = before.get("lastTransitionTime", now)
    if all(said.get(kind) == condition for kind, condition in wanted.items()):
        return None
    return {
        **status,
        "state": State.REJECTED.value,
        "observedGeneration": raw["metadata"].get("generation", 0),
        "conditions": list((said | wanted).values()),
    }
