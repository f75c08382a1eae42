"""Tells people, by Kubernetes events, what has been stored."""

from __future__ import annotations

from typing import Any

from controller.api.rollout import AgentRollout
from controller.core.plan import Plan
from controller.core.snapshot import Snapshot
from controller.reconcilers.observed import ROLLOUTS
from controller.reconcilers.transitions import Transition, story, transition
from controller.runtime.recorder import EventType, ObjectReference, Recorder


class Teller:
    """Records each transition once, when its status is known to be stored.

    Args:
        recorder: Where it is told.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._in_doubt: dict[str, tuple[dict[str, Any], list[Transition]]] = {}
        self._unstorable: dict[str, Transition] = {}

    def stored(self, snapshot: Snapshot, decided: Plan) -> None:
        """The decided status is stored."""
        self._unstorable.pop(snapshot.rollout.metadata.key, None)
        for told in story(snapshot.rollout.status, decided):
            self._record(snapshot.rollout, told)

    def unstorable(self, snapshot: Snapshot, decided: Plan) -> None:
        """The API server stores nothing about this object: what keeps it from doing so is told all the same, once."""
        told = transition(snapshot.rollout.status, decided)
        key = snapshot.rollout.metadata.key
        if told is not None and self._unstorable.get(key) != told:
            self._unstorable[key] = told
            self._record(snapshot.rollout, told)

    def in_doubt(self, snapshot: Snapshot, decided: Plan) -> None:
        """The write of the decided status had no answer; `seen` will show whether it was done."""
        told = story(snapshot.rollout.status, decided)
        if told:
            self._in_doubt[snapshot.rollout.metadata.key] = (decided.status.to_json(), told)

    def seen(self, rollout: AgentRollout) -> None:
        """The rollout as it is stored, after whatever was in doubt has been read again."""
        status, story_of = self._in_doubt.pop(rollout.metadata.key, (None, []))
        if rollout.status.to_json() == status:
            for told in story_of:
                self._record(rollout, told)

    def forget(self, key: str) -> None:
        """The rollout is gone."""
        self._in_doubt.pop(key, None)
        self._unstorable.pop(key, None)

    def _record(self, rollout: AgentRollout, told: Transition) -> None:
        metadata = rollout.metadata
        self._recorder.record(
            ObjectReference(ROLLOUTS, metadata.namespace, metadata.name, metadata.uid),
            event_type=EventType.WARNING if told.bad else EventType.NORMAL,
            reason=told.reason.value,
            action=told.action,
            note=told.message,
        )
