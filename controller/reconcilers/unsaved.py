"""Evidence between two writes of status."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.api.status import RolloutStatus
from controller.reconcilers.observed import ObservedRollout


@dataclass(frozen=True, slots=True)
class _Kept:
    uid: str
    resource_version: str
    status: RolloutStatus


class UnsavedEvidence:
    """Statuses that go on from a stored one and differ from it in nothing but evidence (``core.saving``).

    Each belongs to one version of its object. As soon as that is another one, whoever changed it, the kept status is
    void, and counting goes on from what is stored: so no interval can be counted twice.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def latest(self, observed: ObservedRollout) -> ObservedRollout:
        """The rollout with the evidence that was kept for just this version of it."""
        metadata = observed.rollout.metadata
        kept = self._kept.get(metadata.key)
        if kept is None:
            return observed
        if (kept.uid, kept.resource_version) != (metadata.uid, metadata.resource_version):
            del self._kept[metadata.key]
            return observed
        return replace(observed, rollout=observed.rollout.model_copy(update={"status": kept.status}))

    def keep(self, observed: ObservedRollout, status: RolloutStatus) -> None:
        """Go on from ``status`` while ``observed`` is what is stored."""
        metadata = observed.rollout.metadata
        self._kept[metadata.key] = _Kept(metadata.uid, metadata.resource_version, status)

    def forget(self, key: str) -> None:
        """The rollout is gone."""
        self._kept.pop(key, None)

    def clear(self) -> None:
        """Somebody else decides now, from what is stored."""
        self._kept.clear()
