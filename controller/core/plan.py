"""``plan(snapshot, now)``: the one decision about one rollout.

The evidence and the kill switches are folded in first; then an ordered chain of small rules is asked, and the first that answers decides.
One plan makes at most one transition. Rules that take the candidate away stand before rules that look at anything
else, so nothing can stand between a failed verdict and weight 0. Only the deadline is asked after the others, since it is
about what they leave undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.api.status import RolloutStatus
from controller.core.actions import beyond_limit, take_up
from controller.core.assess import assess
from controller.core.conclude import conclude
from controller.core.entry import opening
from controller.core.images import with_images
from controller.core.killing import fold
from controller.core.outcome import Outcome, View
from controller.core.progress import next_look
from controller.core.rules.accept import accept
from controller.core.rules.advance import advance
from controller.core.rules.baseline import baseline
from controller.core.rules.begin import begin
from controller.core.rules.cancel import cancel
from controller.core.rules.deadline import deadline
from controller.core.rules.endpoints import endpoints
from controller.core.rules.entry import enter_first, enter_next
from controller.core.rules.hold import hold
from controller.core.rules.initialise import initialise
from controller.core.rules.killed import killed
from controller.core.rules.pause import pause
from controller.core.rules.program import program
from controller.core.rules.promote import promote
from controller.core.rules.reject import reject
from controller.core.rules.rollback import rollback
from controller.core.rules.settled import settled
from controller.core.rules.supersede import supersede
from controller.core.rules.unknown import unknown
from controller.core.snapshot import Snapshot
from controller.core.stages import evaluation_due
from controller.core.tally import Catalogue

Rule = Callable[[View], Outcome | None]

RULES: tuple[Rule, ...] = (
    rollback,  # a kill switch, a failed verdict, or nothing left or something else behind the candidate: nothing is asked before this
    reject,  # the spec cannot be accepted: keep serving what serves
    initialise,  # no stable version yet: the first artifact becomes it
    cancel,  # the spec went back to stable
    supersede,  # the spec wants another artifact than the candidate
    killed,  # a kill switch holds, or was just released
    settled,  # nothing to deliver, or it was taken back before
    accept,  # a new artifact becomes the candidate, at weight 0
    pause,  # someone wants nothing to rise
    unknown,  # whether a kill switch is on is not known
    enter_first,  # the first stage waits for people, or for a window
    baseline,  # latency edges are fixed before the candidate gets traffic
    program,  # the wanted split is not acknowledged yet
    endpoints,  # nothing is ready behind the candidate's Service, or what is ready is not known
    begin,  # first stage
    hold,  # the stage is not over, or its evidence does not suffice
    enter_next,  # the next stage waits for people, or for a window
    advance,  # next stage
    promote,  # the last stage was passed
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        rule: Name of the rule that decided.
        status: The status to store.
        cut: Whether users, or mirrored requests, lose the candidate: the data plane is told before anything else.
        create_revision: Whether the wanted artifact's AgentRevision is to be created first.
        delete_revisions: Names of AgentRevisions beyond the history limit.
        delete_actions: Names of RolloutActions beyond the history limit.
        requeue_after: When to plan again if nothing happens before; None for never.
    """

    rule: str
    status: RolloutStatus
    cut: bool
    create_revision: bool
    delete_revisions: tuple[str, ...]
    delete_actions: tuple[str, ...]
    requeue_after: timedelta | None


def plan(snapshot: Snapshot, catalogue: Catalogue, now: datetime) -> Plan:
    """Decide about one rollout, with what people ask for."""
    taken = take_up(snapshot, now)
    decided = _decide(taken, catalogue, now)
    if taken.abort is None and _loses_candidate(snapshot, decided.status):
        # It is lost all the same without what was asked, which then comes too late: it is taken up, and expires, later.
        untouched = _decide(take_up(snapshot, now, leave=True), catalogue, now)
        return untouched if _loses_candidate(snapshot, untouched.status) else decided
    return decided


def _decide(snapshot: Snapshot, catalogue: Catalogue, now: datetime) -> Plan:
    assessed = with_images(snapshot, assess(snapshot, catalogue, now))
    view = View(snapshot, catalogue, fold(assessed, snapshot.switches, snapshot.latch, now), now)
    name, outcome = next((rule.__name__, outcome) for rule in RULES if (outcome := rule(view)) is not None)
    on_time = deadline(view, outcome)
    if outcome.status.candidate is not None and on_time.status.candidate is None:
        name = rollback.__name__
    status = conclude(view, on_time)
    return Plan(
        rule=name,
        status=status,
        cut=_is_cut(snapshot, status),
        create_revision=on_time.create_revision,
        delete_revisions=on_time.delete_revisions,
        delete_actions=beyond_limit(snapshot),
        requeue_after=timedelta(0) if on_time.again else _next_look(view, status),
    )


def _is_cut(snapshot: Snapshot, status: RolloutStatus) -> bool:
    """Whether a candidate that got requests, be it to answer nobody, gets none any more."""
    return snapshot.rollout.status.stage is not None and _loses_candidate(snapshot, status)


def _loses_candidate(snapshot: Snapshot, status: RolloutStatus) -> bool:
    """Whether the candidate goes; becoming stable is no loss."""
    before = snapshot.rollout.status
    if before.candidate is None or status.candidate is not None:
        return False
    return status.stable is None or status.stable.artifact_id != before.candidate.artifact_id


def _next_look(view: View, status: RolloutStatus) -> timedelta | None:
    snapshot, now = view.snapshot, view.now
    after = replace(snapshot, rollout=snapshot.rollout.model_copy(update={"status": status}))
    paused = after.rollout.is_paused
    evaluation = evaluation_due(status, after.stages, after.analysis.interval, now, paused=paused)
    looks = [due for due in (evaluation, next_look(view, status), opening(snapshot, status)) if due]
    return max(min(looks) - now, timedelta(0)) if looks else None
