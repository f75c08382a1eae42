"""AgentRollout: gather -> plan -> apply.

The order of effects is fixed. A cut is pushed to the data plane before anything is awaited; then the artifact's
AgentRevision, then status, by the resourceVersion that the decision was made on. A raise becomes traffic only when
the stored status comes back (``reconcilers.traffic``). A crash between any two effects is repaired by planning again.
Evidence that is no news stays in memory for a while (``core.saving``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from structlog.contextvars import bound_contextvars

from controller.api.quantities import format_percent
from controller.api.reasons import ConditionType, Reason
from controller.api.rollout import AgentRollout
from controller.core.plan import Plan, plan
from controller.core.rules.rollback import rollback
from controller.core.saving import is_news, is_old
from controller.core.snapshot import Latch, Snapshot
from controller.core.tally import Catalogue
from controller.reconcilers.actions import Actions
from controller.reconcilers.deletion import Deletion
from controller.reconcilers.gather import Gatherer
from controller.reconcilers.metrics import RolloutMetrics
from controller.reconcilers.observed import ObservedRevision, ObservedRollout
from controller.reconcilers.references import References, Referred
from controller.reconcilers.revisions import create_revision, delete_revision
from controller.reconcilers.teller import Teller
from controller.reconcilers.traffic import TrafficPublisher
from controller.reconcilers.unreadable import UnreadableTeller
from controller.reconcilers.unsaved import UnsavedEvidence
from controller.runtime.clock import Clock
from controller.runtime.controller import Result
from controller.runtime.errors import ApiError, Conflict, Invalid, Unavailable
from controller.runtime.store import Store
from controller.runtime.writes import WriteThrough

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RolloutReconciler:
    """Reconciles one AgentRollout at a time.

    Attributes:
        rollouts: Store of AgentRollouts.
        revisions: Store of AgentRevisions.
        rollout_client: Writes status, and `rollouts` sees it at once.
        revision_client: Creates and deletes revisions, and `revisions` sees it at once.
        gatherer: Makes snapshots.
        references: Brings into them what references lead to.
        publisher: Turns status and latches into traffic.
        catalogue: Which series of the router say what.
        clock: Source of ``now``.
        metrics: Where decisions are counted.
        deletion: Holds deleted rollouts until the routers have let go.
        teller: Tells people what was decided.
        unreadable: Tells people what cannot be understood.
        actions: What people ask for.
    """

    rollouts: Store[ObservedRollout]
    revisions: Store[ObservedRevision]
    rollout_client: WriteThrough[ObservedRollout]
    revision_client: WriteThrough[ObservedRevision]
    gatherer: Gatherer
    references: References
    publisher: TrafficPublisher
    catalogue: Catalogue
    clock: Clock
    metrics: RolloutMetrics
    teller: Teller
    deletion: Deletion
    unreadable: UnreadableTeller
    actions: Actions
    _failing_since: dict[str, float] = field(default_factory=dict, init=False)
    _unsaved: UnsavedEvidence = field(default_factory=UnsavedEvidence, init=False)

    async def reconcile(self, key: str) -> Result:
        """Bring one rollout a step further."""
        doubt = await self._settle(key)
        observed = self.rollouts.get(key)
        if observed is None:
            problem = self.rollouts.invalid(key)
            if problem is not None:
                await self.unreadable.tell(key, problem)
                return Result()
            self.metrics.forget(key)
            self.teller.forget(key)
            self._failing_since.pop(key, None)
            self._unsaved.forget(key)
            self.gatherer.forget(key)
            await self.actions.expire(key)
            return Result()
        if doubt is None:
            self.teller.seen(observed.rollout)
        if observed.rollout.metadata.deletion_timestamp is not None:
            return await self.deletion.finish(observed)
        with bound_contextvars(rollout=key, **_delivery(observed.rollout)):
            # The instant of the question, not of the answer: a slow source must not stretch the interval.
            now, began = self.clock.now(), self.clock.monotonic()
            snapshot, decided, retry_after = await self._decide(self._unsaved.latest(observed), now)
            try:
                referred = Referred(snapshot)
                if not decided.cut and doubt is None:
                    referred, decided = await self._refer(observed, snapshot, decided, now)
                await self._apply(observed, referred, decided, self.clock.monotonic(), doubt)
            except ApiError as error:
                self._keep_watching(snapshot, error)
                raise
        self._failing_since.pop(key, None)
        wait = _earliest(decided.requeue_after, referred.retry_after, retry_after)
        if wait is None:
            return Result()
        took = self.clock.monotonic() - began
        return Result(max(wait - took, 0.0))

    def drop_unsaved(self) -> None:
        """Another replica decides now, from what is stored; so will this one if it comes to lead again."""
        self._unsaved.clear()

    async def guard(self, key: str) -> Result:
        """Take a candidate that fails, or that a person aborts, from the routers of this replica, and do nothing else.

        For a replica that may not write while nobody is seen to lead. The evidence is read from where status stands,
        as the next leader will; the cut is latched, so that it holds until that one has stored it.
        """
        observed = self.rollouts.get(key)
        if observed is None or observed.rollout.status.stage is None or self.publisher.latched(key):
            return Result()
        with bound_contextvars(rollout=key, **_delivery(observed.rollout)):
            snapshot, decided, _ = await self._decide(observed, self.clock.now())
            if decided.cut and decided.rule == rollback.__name__:
                self._cut(snapshot, decided, self.clock.monotonic())
        return Result(snapshot.analysis.interval.total_seconds())

    async def _decide(self, observed: ObservedRollout, now: datetime) -> tuple[Snapshot, Plan, float | None]:
        """What is to be done, and when to ask again who may ask for what, in seconds.

        An API server that hangs with its policy keeps no failing version in service, nor does a metric source one that was aborted:
        the first that takes it back is pushed. What becomes of what was asked is stored with it.
        """
        key = observed.rollout.metadata.key
        snapshot = self.gatherer.snapshot(observed, now, self.actions.decided(key))
        if not self.actions.is_asked(key):
            return *await self._inform(snapshot, now), None
        asking = asyncio.create_task(self.actions.of(key))
        informing = asyncio.create_task(self._inform(snapshot, now))
        try:
            await asyncio.wait((asking, informing), return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                told = replace(snapshot, actions=asking.result().actions)
                if (decided := plan(told, self.catalogue, now)).cut:
                    return told, decided, None
            informed, decided = await informing
            if decided.cut and decided.rule != rollback.__name__:
                return informed, decided, None
            if decided.cut:
                self._cut(informed, decided, self.clock.monotonic())
                informed = replace(informed, latch=self.publisher.latched(key))
            asked = await asking
            told = replace(informed, actions=asked.actions)
            return told, plan(told, self.catalogue, now), asked.retry_after
        finally:
            asking.cancel()
            informing.cancel()

    async def _inform(self, snapshot: Snapshot, now: datetime) -> tuple[Snapshot, Plan]:
        """The snapshot with evidence, and what is to be done; a cut that needs no evidence does not wait for the metric source."""
        decided = plan(snapshot, self.catalogue, now)
        if decided.cut:
            return snapshot, decided
        informed = await self.gatherer.with_evidence(
            snapshot, now, lambda so_far: plan(so_far, self.catalogue, now).cut
        )
        return informed, decided if informed is snapshot else plan(informed, self.catalogue, now)

    async def _refer(
        self, observed: ObservedRollout, snapshot: Snapshot, decided: Plan, now: datetime
    ) -> tuple[Referred, Plan]:
        """The snapshot with what references lead to, and the plan that is made on it; no cut waits for this."""
        referred = await self.references.refer(observed, snapshot, creating=decided.create_revision)
        if referred.snapshot is snapshot:
            return referred, decided
        return referred, plan(referred.snapshot, self.catalogue, now)

    def _keep_watching(self, snapshot: Snapshot, error: ApiError) -> None:
        """Look at a candidate every interval, however long the API server stays away.

        The queue's delays grow with the trouble so far, so they are short enough only in the first part of an interval.
        """
        now = self.clock.monotonic()
        since = self._failing_since.setdefault(snapshot.rollout.metadata.key, now)
        interval = snapshot.analysis.interval.total_seconds()
        if snapshot.rollout.status.candidate is not None and now - since > interval / 4:
            error.retry_after = min(error.retry_after or interval, interval)

    async def _settle(self, key: str) -> ApiError | None:
        """Learn what became of our last writes for the key; else why that cannot be learned."""
        try:
            await self.rollout_client.settle(key)
            await self.revision_client.settle(key)
        except ApiError as error:
            return error
        return None

    async def _apply(
        self,
        observed: ObservedRollout,
        referred: Referred,
        decided: Plan,
        gathered: float,
        doubt: ApiError | None,
    ) -> None:
        snapshot = referred.snapshot
        key = snapshot.rollout.metadata.key
        if decided.cut:
            self._cut(snapshot, decided, gathered)
        if doubt is not None:
            self._go_on(observed, decided)
            raise doubt  # what is stored may be another story; only a cut does not wait for it
        if not decided.cut and snapshot.latch and not snapshot.latch.reason:
            self.publisher.release(key)
        _log_transition(snapshot, decided)
        if await self._hold(observed):
            return  # the object has changed, and comes back
        if decided.create_revision:
            agent = referred.agent or observed.agent
            await create_revision(self.rollout_client, self.revision_client, snapshot, agent)
        if await self._save(observed, snapshot, decided):
            self.teller.stored(snapshot, decided)
        else:
            self.teller.unstorable(snapshot, decided)
        await self.actions.tell(snapshot.rollout.metadata.namespace, decided.status.actions)
        await self.actions.delete(snapshot.rollout.metadata.namespace, decided.delete_actions)
        for name in decided.delete_revisions:
            await delete_revision(
                self.revision_client, f"{snapshot.rollout.metadata.namespace}/{name}", owner=key
            )
        self.metrics.observe(key, decided.status)

    def _cut(self, snapshot: Snapshot, decided: Plan, gathered: float) -> None:
        candidate = snapshot.rollout.status.candidate
        assert candidate is not None  # noqa: S101  a cut takes a candidate away
        key = snapshot.rollout.metadata.key
        record = decided.status.last_rollback if decided.rule == rollback.__name__ else None
        latch = Latch(candidate.artifact_id, candidate.attempt)
        if record:
            latch = replace(latch, reason=record.reason, metric=record.metric, message=record.message)
        known = self.publisher.latched(key)
        if known is not None and (known == latch or known.reason is Reason.KILL_SWITCH_ON):
            return  # pushed before, but status could not be stored
        self.metrics.cut(key, decided.rule)
        self.publisher.latch(key, latch)
        _log.warning(
            "cut_pushed",
            rule=decided.rule,
            reason=latch.reason,
            metric=latch.metric,
            message=latch.message,
            seconds_since_evidence=self.clock.monotonic() - gathered,
        )

    async def _hold(self, observed: ObservedRollout) -> bool:
        try:
            return await self.deletion.hold(observed)
        except Invalid:
            if observed.problem is None:
                raise
            return False  # nothing new is served of a refused spec

    async def _save(self, observed: ObservedRollout, snapshot: Snapshot, decided: Plan) -> bool:
        """Store the status, or go on without if it differs from the stored one in nothing but young evidence.

        Returns:
            Whether it could be stored. Where a spec is so broken that a rule of the CRD cannot even be asked, the API
            server refuses every write to the object, that of its status included.
        """
        stored = observed.rollout.status
        if decided.status == stored:
            return True
        if not is_old(stored, self.clock.now()) and self._go_on(observed, decided):
            return True
        try:
            await self._store_status(observed, snapshot, decided)
        except Conflict:
            raise
        except ApiError as error:
            self._go_on(observed, decided)
            if isinstance(error, Invalid) and observed.problem is not None:
                _log.warning("status_refused", error=str(error))
                return False
            raise
        return True

    def _go_on(self, observed: ObservedRollout, decided: Plan) -> bool:
        """Keep evidence in memory, so that it need not be read from ever further back; a decision counts once stored."""
        if is_news(observed.rollout.status, decided.status):
            return False
        self._unsaved.keep(observed, decided.status)
        return True

    async def _store_status(self, observed: ObservedRollout, snapshot: Snapshot, decided: Plan) -> None:
        before, after = observed.rollout.status.to_json(), decided.status.to_json()
        if before == after:
            return
        metadata = observed.rollout.metadata
        try:
            await self.rollout_client.update_status(
                metadata.key, after, resource_version=metadata.resource_version, uid=metadata.uid
            )
        except Conflict:
            # Do not wait for the watch, which may be half open, to tell what has changed.
            await self.rollout_client.get(metadata.key)
            raise
        except Unavailable:
            self.teller.in_doubt(snapshot, decided)
            raise


def _earliest(requeue_after: timedelta | None, *retries: float | None) -> float | None:
    waits = [requeue_after.total_seconds()] if requeue_after is not None else []
    return min([*waits, *(retry for retry in retries if retry is not None)], default=None)


def _delivery(rollout: AgentRollout) -> dict[str, str]:
    """What ties the log lines of one delivery together, over restarts."""
    candidate = rollout.status.candidate
    if candidate is None:
        return {}
    return {"artifact": candidate.artifact_id, "correlation_id": f"{candidate.revision}.{candidate.attempt}"}


def _log_transition(snapshot: Snapshot, decided: Plan) -> None:
    """One line when the story goes on, none for a tick."""
    before = snapshot.rollout.status.condition(ConditionType.PROGRESSING)
    after = decided.status.condition(ConditionType.PROGRESSING)
    if after is None or (before is not None and before.reason == after.reason):
        return
    _log.info(
        "transition",
        rule=decided.rule,
        reason=after.reason,
        message=after.message,
        weight=format_percent(decided.status.weight),
        stage=decided.status.stage.title if decided.status.stage else "",
    )
