"""What a rule sees, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.api.reasons import ConditionType, Reason
from controller.api.status import CandidateRef, RolloutStatus, StageStatus
from controller.core.artifact import revision_name
from controller.core.snapshot import Snapshot
from controller.core.stages import draining, table_of
from controller.core.tally import Catalogue
from controller.core.traffic import TrafficTable


@dataclass(frozen=True, slots=True)
class Report:
    """One condition as a rule wants it.

    Attributes:
        status: ``True``, ``False`` or ``Unknown``.
        reason: Why.
        message: One sentence for people.
    """

    status: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule's decision.

    Attributes:
        status: The new status, without conditions.
        progressing: What is said about the candidate's way.
        healthy: What is said about the latest artifact; None leaves it as it is.
        create_revision: Whether the wanted artifact's AgentRevision is to be created first.
        delete_revisions: Names of AgentRevisions that are not needed any more.
        again: Whether to plan again at once.
    """

    status: RolloutStatus
    progressing: Report
    healthy: Report | None = None
    create_revision: bool = False
    delete_revisions: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """One rollout as a rule sees it.

    Attributes:
        snapshot: Everything that was gathered.
        catalogue: Which series of the router say what.
        status: The stored status with this evaluation's evidence folded in.
        now: The instant of the decision.
    """

    snapshot: Snapshot
    catalogue: Catalogue
    status: RolloutStatus
    now: datetime

    @property
    def wanted(self) -> str:
        """The artifact that the spec asks for."""
        return self.snapshot.artifact_id

    @property
    def wanted_revision(self) -> str:
        """The name of its AgentRevision."""
        return revision_name(self.snapshot.rollout.metadata.name, self.wanted)

    @property
    def is_wanted_revision_missing(self) -> bool:
        """Whether the wanted artifact's AgentRevision is not there."""
        return all(revision.name != self.wanted_revision for revision in self.snapshot.revisions)

    @property
    def candidate(self) -> CandidateRef:
        """The candidate; only for rules that stand behind those that handle its absence."""
        assert self.status.candidate is not None  # noqa: S101  the order of the chain guarantees it
        return self.status.candidate

    @property
    def stage(self) -> StageStatus:
        """The stage; only for rules that stand behind the one that begins the first."""
        assert self.status.stage is not None  # noqa: S101  the order of the chain guarantees it
        return self.status.stage

    @property
    def progressing(self) -> Report:
        """What is said so far about the candidate's way."""
        said = self.status.condition(ConditionType.PROGRESSING)
        return Report(said.status, said.reason, said.message) if said else Report("Unknown", Reason.IDLE, "")

    @property
    def table(self) -> TrafficTable | None:
        """The traffic that the status asks for."""
        return table_of(self.snapshot.rollout, self.status, self.snapshot.revisions)

    @property
    def is_programmed(self) -> bool:
        """Whether every connected router instance serves the wanted table."""
        return self.snapshot.programmed.serves(self.table)

    @property
    def is_wanted_stable(self) -> bool:
        """Whether the wanted artifact is the stable one."""
        return self.status.stable is not None and self.status.stable.artifact_id == self.wanted

    def without_candidate(self, *, killed: bool = False) -> RolloutStatus:
        """The status with the candidate and everything about it gone."""
        return self.status.model_copy(
            update={
                "draining": draining(self.snapshot.rollout.spec, self.status, killed=killed),
                "candidate": None,
                "stage": None,
                "stalled": None,
                "pause": None,
                "approvals": [],
                "weight": 0,
                "frozen": None,
                "analysis": [],
                "guardrails": [],
                "verdict": None,
                "evidence": None,
            }
        )
