"""gather: everything that one decision needs, read from stores, router and metric source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

import structlog

from controller.adapters.cron import WindowError, opening
from controller.adapters.ports import MetricSource, MetricSourceError, Question
from controller.api.reasons import Reason
from controller.api.status import VersionRef
from controller.core.counts import Series
from controller.core.queries import queries
from controller.core.references import UNRESOLVED
from controller.core.snapshot import Action, Answer, Endpoints, Problem, Revision, Samples, Snapshot
from controller.core.stages import evaluation_due
from controller.core.tally import Catalogue
from controller.reconcilers.backends import Backends, host_problem
from controller.reconcilers.fleet import Fleet
from controller.reconcilers.lookback import Lookback
from controller.reconcilers.observed import ObservedRevision, ObservedRollout
from controller.reconcilers.questions import report_questions, router_question
from controller.reconcilers.traffic import BY_OWNER, TrafficPublisher
from controller.runtime.store import Store

_log = structlog.get_logger(__name__)


_NO_SHADOW = (
    "spec.shadow: the operator was started without --shadow-address: start it with the address of agentrollout shadow, or "
    "remove spec.shadow"
)
_SLOWER = "the routers' counters decided before there was an answer"


class Gatherer:
    """Makes snapshots."""

    def __init__(
        self,
        *,
        revisions: Store[ObservedRevision],
        publisher: TrafficPublisher,
        fleet: Fleet,
        backends: Backends,
        metrics: MetricSource,
        catalogue: Catalogue,
        shadows: bool = False,
    ) -> None:
        """Nothing is read yet.

        Args:
            revisions: Store of AgentRevisions.
            publisher: What is published to routers.
            fleet: What routers acknowledged.
            backends: What stands behind versions.
            metrics: Source of evidence.
            catalogue: Which series of the router say what.
            shadows: Whether routers can be told to whom the answers of candidates in the shadow go.
        """
        self._revisions = revisions
        self._publisher = publisher
        self._fleet = fleet
        self._backends = backends
        self._metrics = metrics
        self._catalogue = catalogue
        self._shadows = shadows
        self._routers, self._reports = Lookback(), Lookback()

    def snapshot(
        self, observed: ObservedRollout, now: datetime, actions: tuple[Action, ...] = ()
    ) -> Snapshot:
        """The rollout as it is now, with what people ask of it and what the calendar says, without evidence."""
        rollout = self._publisher.owned(observed)
        key, status = rollout.metadata.key, rollout.status
        revisions = tuple(found.revision for found in self._revisions.by_index(BY_OWNER, key))
        try:
            window, misread = opening(rollout.spec.windows, now), None
        except WindowError as error:
            window, misread = None, Problem(Reason.INVALID, str(error))
        return Snapshot(
            rollout=rollout,
            artifact_id=observed.artifact_id,
            wanted_backend=observed.backend,
            problem=self._problem(observed) or misread,
            revisions=revisions,
            programmed=self._fleet.programmed(key),
            latch=self._fleet.latched(key),
            stable_endpoints=self._endpoints(status.stable, revisions),
            candidate_endpoints=self._endpoints(status.candidate, revisions),
            resolved=observed.resolved,
            actions=actions,
            window=window,
            switches=self._publisher.switches(rollout),
        )

    async def with_evidence(
        self, snapshot: Snapshot, now: datetime, is_cut: Callable[[Snapshot], bool]
    ) -> Snapshot:
        """The snapshot with the metric source's answers, if an evaluation is due.

        Args:
            snapshot: What was gathered so far.
            now: The instant of the evaluation.
            is_cut: Whether users would lose the candidate by a snapshot: then nothing else is waited for.
        """
        status = snapshot.rollout.status
        paused = snapshot.rollout.is_paused
        due = evaluation_due(status, snapshot.stages, snapshot.analysis.interval, now, paused=paused)
        if due is None or due > now:
            return snapshot
        return replace(snapshot, samples=await self._samples(snapshot, now, is_cut))

    def _problem(self, observed: ObservedRollout) -> Problem | None:
        if observed.problem:
            return observed.problem
        if observed.rollout.spec.shadow is not None and not self._shadows:
            return Problem(Reason.SHADOW_NOT_AVAILABLE, _NO_SHADOW)
        namespace = observed.rollout.metadata.namespace
        return (
            host_problem(observed.rollout.spec.traffic.envoy.hosts, namespace, self._publisher.claims)
            or self._conflict(observed)
            or self._backends.problem(observed.backend, namespace)
            or (UNRESOLVED if observed.spec_hash and not observed.artifact_id else None)
        )

    def _endpoints(self, version: VersionRef | None, revisions: Iterable[Revision]) -> Endpoints | None:
        """What stands behind a version that the status names."""
        backend = next((r.backend for r in revisions if version and r.name == version.revision), None)
        return self._backends.endpoints(backend)

    def _conflict(self, observed: ObservedRollout) -> Problem | None:
        key = observed.rollout.metadata.key
        for host in observed.rollout.spec.traffic.envoy.hosts:
            owner = self._publisher.owner_of(host)
            if owner not in (key, None):
                return Problem(
                    Reason.CONFLICTED,
                    f"spec.traffic.envoy.hosts: {host} is served by the older AgentRollout {owner}; "
                    "choose another host or remove it there",
                )
        return None

    async def _samples(
        self, snapshot: Snapshot, now: datetime, is_cut: Callable[[Snapshot], bool]
    ) -> Samples:
        """What all sources say; without those that are slower than the routers' counters, if these decide by themselves."""
        key, asked = snapshot.rollout.metadata.key, queries(snapshot, now)
        # The next evaluation of the routers' counters must not come late either.
        patience = snapshot.analysis.interval.total_seconds() / 2
        reports = [
            asyncio.create_task(self._answer(question, patience))
            for question in report_questions(snapshot, now, self._reports)
        ]
        values = [asyncio.create_task(self._value(query, now, patience)) for query in asked]
        try:
            question = router_question(snapshot, self._catalogue, now, self._routers)
            series, problem = await self._answer(question)
            self._routers.note(key, series)
            early = Samples(
                now,
                series,
                problem,
                reports_problem=_SLOWER,
                answers=dict.fromkeys(asked, Answer(problem=_SLOWER)),
            )
            is_late = not all(task.done() for task in (*reports, *values))
            if is_late and is_cut(replace(snapshot, samples=early)):
                return early
            told = await asyncio.gather(*reports)
            answers = await asyncio.gather(*values)
        finally:
            for task in (*reports, *values):
                task.cancel()
        reported = tuple(one for answer, _ in told for one in answer)
        self._reports.note(key, reported)
        return replace(
            early,
            reports=reported,
            reports_problem=next((each for _, each in told if each), ""),
            answers=dict(zip(asked, answers, strict=True)),
        )

    def forget(self, key: str) -> None:
        """The rollout is gone."""
        self._routers.forget(key)
        self._reports.forget(key)

    async def _answer(
        self, question: Question, patience: float | None = None
    ) -> tuple[tuple[Series, ...], str]:
        """The answer, or why there is none: what agents report must not keep the routers' counters from deciding."""
        try:
            async with asyncio.timeout(patience):
                return await self._metrics.read(question), ""
        except (MetricSourceError, TimeoutError) as error:
            problem = str(error) or f"no answer within {patience:g} s"
            _log.warning("evidence_unreadable", problem=problem)
            return (), problem

    async def _value(self, query: str, now: datetime, patience: float) -> Answer:
        try:
            async with asyncio.timeout(patience):
                return Answer(await self._metrics.values(query, now))
        except (MetricSourceError, TimeoutError) as error:
            problem = str(error) or f"no answer within {patience:g} s"
            _log.warning("query_unreadable", query=query, problem=problem)
            return Answer(problem=problem)
