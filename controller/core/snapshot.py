"""Everything a decision about one rollout needs, gathered before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.api.action import ActionPhase, ActionSpec
from controller.api.delivery import Analysis, Stage
from controller.api.reasons import Reason
from controller.api.rollout import AgentRollout
from controller.api.status import Asked, ResolvedReferences
from controller.core.counts import Series
from controller.core.traffic import Backend, Programmed


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a spec from being accepted; the message names the field and the way out."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Drift:
    """Something outside of the spec that is no longer, or not certainly, as it was when a version was made of it.

    Attributes:
        reason: In a word.
        message: In a sentence.
        artifact_id: The artifact that it was part of, where several are looked at together.
    """

    reason: Reason
    message: str
    artifact_id: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """An AgentRevision, reduced to what decisions use.

    Attributes:
        name: Object name.
        artifact_id: The artifact it keeps.
        backend: Where the artifact is served.
        created: Creation order; larger is newer.
        model: ``provider/name`` of the model that it asks; empty if it says none.
    """

    name: str
    artifact_id: str
    backend: Backend
    created: float
    model: str = ""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What stands behind the Service of one version.

    Attributes:
        service: Name of the Service.
        ready: Endpoints that take requests.
        total: The ready ones and those that are not, or not yet; without those on their way out.
        images: Digests of the images of their pods; empty if there are no pods to be found, None while not known.
        images_problem: Why they are not known, if there is more to say than that they are being read.
    """

    service: str
    ready: int
    total: int
    images: frozenset[str] | None = frozenset()
    images_problem: str = ""

    @property
    def words(self) -> str:
        """The numbers, for a message."""
        return f"{self.ready} of {self.total} endpoints of Service {self.service} are ready"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the metric source says to a query.

    Attributes:
        values: Of all elements of the answer.
        problem: Why there is no usable answer; empty if there is.
    """

    values: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Samples:
    """The answer of the metric source at one evaluation.

    Attributes:
        at: When it was asked, the end of the samples' window.
        series: Raw samples of every counter of the routers that the metrics read, and of the liveness series.
        problem: Why there is no usable answer; empty if there is.
        reports: Raw samples of what the agents of both versions report.
        reports_problem: Why there are none of those.
        answers: To the queries of guardrails.
    """

    at: datetime
    series: tuple[Series, ...] = ()
    problem: str = ""
    reports: tuple[Series, ...] = ()
    reports_problem: str = ""
    answers: Mapping[str, Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether weight may rise now, by the windows of the spec.

    Attributes:
        is_open: Whether it may.
        opens_at: When it may again; None while it may, and if no window opens in the years to come.
    """

    is_open: bool
    opens_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """A RolloutAction.

    Attributes:
        uid: Tells it from a later one of the same name.
        name: Object name.
        order: Smaller is older.
        spec: What is asked, by whom and why.
        phase: What became of it, as far as it shows itself.
        problem: Why it may not be done whatever it is; empty if it may.
    """

    uid: str
    name: str
    order: tuple[datetime, int]
    spec: ActionSpec
    phase: ActionPhase = ActionPhase.PENDING
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Latch:
    """A cut that was pushed to the data plane and is not stored in status yet.

    Attributes:
        artifact_id: The artifact that was cut.
        attempt: Its attempt.
        reason: Why it was taken back for good; None if it was only taken off.
        metric: The metric that failed, if one did.
        message: The reason's words.
    """

    artifact_id: str
    attempt: int
    reason: Reason | None = None
    metric: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """A kill switch of the rollout, of its namespace or of the cluster, as it stands.

    Attributes:
        name: Name of the switch.
        source: Where it is thrown, for people.
        on: Whether it is; None if that is not known.
        auto_resume: Whether turning it off is enough to release what it has killed.
        doubt: Why it is not known, or why what is known may be old; empty if there is no doubt.
    """

    name: str
    source: str
    on: bool | None
    auto_resume: bool = False
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One rollout as seen at one instant.

    Attributes:
        rollout: Spec and status, from the same resourceVersion.
        artifact_id: The artifact that the spec wants; empty if a problem kept it from being hashed.
        wanted_backend: Where that artifact is served; None if a problem kept it from being known.
        problem: What keeps the spec from being accepted.
        revisions: The rollout's AgentRevisions.
        programmed: What the data plane acknowledged.
        samples: The metric source's answer; None when no evaluation was due.
        latch: A cut that status does not show yet.
        stable_endpoints: What stands behind stable; None if that is no Service.
        candidate_endpoints: What stands behind the candidate; None if that is no Service.
        resolved: What the wanted artifact's references led to; None if it has none or they were not resolved.
        drift: What references no longer lead to; None if nobody looked.
        actions: The rollout's RolloutActions, decided ones too.
        window: What the windows of the spec say; None if it has none.
        abort: Who asks for the candidate to be taken back; known once actions were taken up.
        switches: The kill switches that concern the candidate.
    """

    rollout: AgentRollout
    artifact_id: str
    wanted_backend: Backend | None
    problem: Problem | None
    revisions: tuple[Revision, ...]
    programmed: Programmed
    samples: Samples | None = None
    latch: Latch | None = None
    stable_endpoints: Endpoints | None = None
    candidate_endpoints: Endpoints | None = None
    resolved: ResolvedReferences | None = None
    drift: tuple[Drift, ...] | None = None
    actions: tuple[Action, ...] = ()
    abort: Asked | None = None
    window: Opening | None = None
    switches: tuple[Switch, ...] = ()

    @property
    def stages(self) -> list[Stage]:
        """The stages in force: frozen when the candidate was accepted."""
        frozen = self.rollout.status.frozen
        return frozen.stages if frozen else self.rollout.spec.stages

    @property
    def analysis(self) -> Analysis:
        """The analysis in force: frozen when the candidate was accepted."""
        frozen = self.rollout.status.frozen
        return frozen.analysis if frozen else self.rollout.spec.analysis
