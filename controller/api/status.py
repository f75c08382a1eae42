"""What the controller reports about an AgentRollout, and the state it goes on with after a restart."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from controller.api.action import ActionName, ActionPhase
from controller.api.agent import PromptSource
from controller.api.delivery import Analysis, Stage
from controller.api.guardrails import GuardrailAction
from controller.api.model import Model
from controller.api.quantities import Elapsed, Share, Time
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.shadow import Shadow


class Condition(Model):
    """A Kubernetes condition."""

    type: ConditionType
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$")] = Field(
        description="True, False or Unknown."
    )
    reason: Reason
    message: str = Field(default="", description="The reason in a sentence.")
    last_transition_time: Time = Field(description="When the status last changed.")
    observed_generation: int = Field(default=0, description="The generation of the spec that this is about.")


class VersionRef(Model):
    """One artifact and the AgentRevision that keeps it."""

    revision: str = Field(description="Name of the AgentRevision.")
    artifact_id: str = Field(description="sha256 of what the version is made of.")
    images: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)] | None = Field(
        default=None,
        description="Digests of the images of the pods behind the version's Service, as they were when it was frozen.",
    )


class CandidateRef(VersionRef):
    """The artifact on its way."""

    attempt: int = Field(default=1, description="Counts the explicit tries of this artifact.")


class Asked(Model):
    """What a person asked for by a RolloutAction."""

    by: str = Field(description="Who.")
    reason: str = Field(description="Why, in their words.")
    at: Time = Field(description="When it was taken up.")

    @property
    def words(self) -> str:
        """Who and why, for a message."""
        return f"{self.by} ({self.reason})"


class ActionRecord(Asked):
    """What became of a RolloutAction, until the action itself shows it."""

    uid: str = Field(description="The action's uid: it is taken up once.")
    name: str = Field(description="The action's name.")
    action: ActionName = Field(description="What was asked for.")
    phase: ActionPhase = Field(description="Applied, Expired or Refused.")
    message: str = Field(description="What was done, or why nothing was.")


class Approved(Asked):
    """One person's approval of the candidate for one stage."""

    stage: int = Field(description="Position of the stage in the frozen list of stages, from 0.")


class Attempt(Model):
    """How often an artifact was tried."""

    artifact_id: str = Field(description="The artifact.")
    attempt: int = Field(description="The number of its last attempt.")


class StageStatus(Model):
    """The stage the candidate is in."""

    index: int = Field(description="Position in the frozen list of stages, from 0.")
    name: str = Field(default="", description="The stage's name, if it has one.")
    title: str = Field(default="", description="The stage in a word, such as internal or 10%.")
    weight: Share = Field(default=0, description="The candidate's share of the stage's requests.")
    entered_at: Time = Field(description="When the stage was decided on.")
    programmed_at: Time | None = Field(
        default=None,
        description="When the data plane acknowledged the stage's split; evidence counts from here.",
    )
    requests: int = Field(default=0, description="The candidate's requests counted in this stage.")
    regression: str = Field(
        default="",
        description="With shadow.onRegression: Hold, what showed that the candidate's answers are worse: it keeps the candidate "
        "in the shadow.",
    )
    promoted: Asked | None = Field(
        default=None,
        description="Who ended the stage's waiting: it goes on to the next without more time or evidence, unless something has "
        "failed.",
    )


class Stalled(Model):
    """Time that counts towards progressDeadline; a stage that is entered starts anew."""

    before: Elapsed = Field(
        default=timedelta(0), description="Time without progress until the clock was last stopped."
    )
    since: Time | None = Field(
        default=None, description="Since when the clock runs; left out while it is stopped."
    )


class Frozen(Model):
    """The delivery as it was when the candidate was accepted; edits of the spec apply to the next attempt."""

    stages: list[Stage] = Field(
        description="spec.stages as they were; before them, with weight 0%, the stage of spec.shadow."
    )
    analysis: Analysis = Field(description="spec.analysis as it was.")
    shadow: Shadow | None = Field(default=None, description="spec.shadow as it was.")


class Counts(Model):
    """Bad events among all events, summed over the counted intervals of a stage."""

    bad: int = Field(default=0, description="Bad events.")
    total: int = Field(default=0, description="All events.")


class MetricStatus(Model):
    """What one metric says, with its numbers."""

    name: str = Field(description="Name of the metric.")
    verdict: Verdict = Field(description="Pass, Fail, Insufficient or Error.")
    reason: Reason | None = Field(
        default=None, description="Why evidence that could be read is not fit to decide on."
    )
    candidate: Counts = Field(default_factory=Counts, description="The candidate's events in this stage.")
    baseline: Counts = Field(default_factory=Counts, description="Stable's events in the same time.")
    wins: int | None = Field(
        default=None, description="For shadow with a noise arm, comparisons that the candidate has won."
    )
    evidence: float = Field(default=1.0, description="E-value of the harm test.")
    threshold: float = Field(
        default=0.0,
        description="The e-value that alone is enough to fail; less can suffice together with the other metrics.",
    )
    min_detectable_ratio: float | None = Field(
        default=None,
        description="The smallest odds ratio, candidate to stable, that this much traffic could have shown: a version that "
        "much worse from the start would have been taken back by now in about one of two cases. Left out if it is above "
        "1000. At 100% a multiple of what is tolerated there.",
    )
    safety: float | None = Field(
        default=None,
        description="With advanceOn: Evidence, the e-value of the test that the candidate is less than maxRatio times as "
        "bad; 20 shows it.",
    )
    message: str = Field(default="", description="The numbers behind the verdict, in a sentence.")


class GuardrailStatus(Model):
    """What one guardrail says, with its numbers."""

    name: str = Field(description="Name of the guardrail.")
    verdict: Verdict = Field(
        description="Pass within the limit, Fail beyond it, Insufficient or Error when that is not known."
    )
    action: GuardrailAction = Field(description="What follows.")
    reason: Reason | None = Field(default=None, description="GuardrailBroken or BaselineUnhealthy.")
    candidate: Counts = Field(
        default_factory=Counts,
        description="The candidate's events in this stage, and those beyond the limit.",
    )
    evidence: float = Field(default=1.0, description="E-value of the limit being broken; 1000 is enough.")
    value: float | None = Field(
        default=None,
        description="What the query of a guardrail of one's own gave; of dailyCost the dollars of the last 24 hours.",
    )
    message: str = Field(default="", description="The numbers behind the verdict, in a sentence.")


class MetricEvidence(Model):
    """The state of one metric's test, enough to go on after a restart."""

    name: str = Field(description="Name of the metric.")
    tests: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=4)] = Field(
        default_factory=list, description="State of each averaged test; opaque, versioned."
    )
    safety: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=4)] = Field(
        default_factory=list,
        description="State of each test's counterpart that shows safety; opaque, versioned.",
    )
    controls: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=4)] = Field(
        default_factory=list,
        description="What stable's control slices told beside each test, so far; opaque, versioned.",
    )
    signs: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=2)] = Field(
        default_factory=list,
        description="For shadow, the state of the test of losses against wins of the candidate, and of stable's second "
        "answers; opaque, versioned.",
    )
    edges: Annotated[list[float], Field(max_length=4)] = Field(
        default_factory=list, description="Fixed histogram edges in milliseconds, for latency."
    )
    reference: list[Counts] = Field(
        default_factory=list,
        max_length=4,
        description="Baseline counts of the last stage that had one; at 100% they stand in for it.",
    )
    counted_until: Time | None = Field(
        default=None, description="The end of its last counted interval, for what agents report."
    )


class SplitEvidence(Model):
    """The state of one split's check, enough to go on after a restart."""

    audience: bool = Field(default=False, description="Whether it is the split of the audience.")
    test: Annotated[str, Field(max_length=512)] = Field(description="State of the test; opaque, versioned.")


class GuardrailEvidence(Model):
    """The state of one guardrail's tests, enough to go on after a restart."""

    name: str = Field(description="Name of the guardrail.")
    limit: float = Field(
        default=0.0, description="The limit in its own unit, fixed by stable's past if need be."
    )
    test: Annotated[str, Field(max_length=512)] = Field(
        default="", description="State of the candidate's test; opaque, versioned."
    )
    baseline: Annotated[str, Field(max_length=512)] = Field(
        default="", description="State of the same test of stable."
    )
    counted_until: Time | None = Field(
        default=None,
        description="The end of the last counted interval, for what agents report; for dailyCost when it was last asked.",
    )
    beyond: Elapsed = Field(
        default=timedelta(0), description="For how long the value of its query was seen beyond the limit."
    )
    beyond_at: Time | None = Field(
        default=None, description="The last evaluation, if the value was beyond the limit at it."
    )


class Evidence(Model):
    """Where counting stands; an interval at or before ``countedUntil`` is never counted again."""

    evaluated_at: Time | None = Field(default=None, description="When the evidence was last read.")
    counted_until: Time | None = Field(default=None, description="The end of the last counted interval.")
    continuous_since: Time | None = Field(
        default=None,
        description="When counting went on with another Prometheus; what began to move before is left out.",
    )
    problem: str = Field(default="", description="Why the evidence could not be read at the last evaluation.")
    metrics: list[MetricEvidence] = Field(
        default_factory=list, max_length=32, description="The state of each metric's test."
    )
    guardrails: list[GuardrailEvidence] = Field(
        default_factory=list, max_length=16, description="The state of each guardrail's tests."
    )
    splits: list[SplitEvidence] = Field(
        default_factory=list,
        max_length=2,
        description="The state of the check that the router splits as told, for this stage.",
    )


class RollbackRecord(Model):
    """Why an artifact was taken back."""

    artifact_id: str = Field(description="The artifact that was taken back.")
    reason: Reason = Field(description="Why, in a word.")
    metric: str = Field(default="", description="The metric that decided.")
    message: str = Field(default="", description="Its numbers, in a sentence.")
    at: Time = Field(description="When it was decided.")
    stage: str = Field(default="", description="The stage in which it happened.")


class KillStatus(Model):
    """A kill switch that was found on. It holds until it is released, whatever else is said or changed."""

    switch: str = Field(description="Name of the switch.")
    source: str = Field(description="Where it was thrown.")
    since: Time = Field(description="When it was found on.")
    message: str = Field(default="", description="The same in a sentence.")


class FrozenReference(PromptSource):
    """One reference and what it led to."""

    prompt: str = Field(description="Name of the prompt.")
    digest: str = Field(
        description="Of the content: sha256 of a ConfigMap's text, HMAC-SHA256 of a Secret's."
    )


class ResolvedReferences(Model):
    """What the references of one version led to, so that they are read once."""

    spec_hash: str = Field(description="sha256 of spec.agent as written, with references as references.")
    artifact_id: str = Field(description="The artifact that came of it.")
    references: list[FrozenReference] = Field(
        default_factory=list, max_length=32, description="Each reference with a digest of what it led to."
    )


class RolloutStatus(Model):
    """Status of an AgentRollout."""

    observed_generation: int = Field(default=0, description="The generation of the spec that this is about.")
    state: State = Field(
        default=State.PENDING, description="One word for people, derived from everything else."
    )
    verdict: Verdict | None = Field(default=None, description="The worst verdict of all metrics.")
    stable: VersionRef | None = Field(default=None, description="The version that serves by default.")
    candidate: CandidateRef | None = Field(
        default=None, description="The version on its way, if there is one."
    )
    stage: StageStatus | None = Field(default=None, description="The stage that the candidate is in.")
    stalled: Stalled | None = Field(
        default=None,
        description="How long the candidate has made no progress beyond its stage's minDuration.",
    )
    weight: Share = Field(
        default=0, description="The candidate's wanted share of everyone outside the audiences."
    )
    programmed: Share | None = Field(default=None, description="The share that the data plane acknowledged.")
    frozen: Frozen | None = None
    analysis: list[MetricStatus] = Field(
        default_factory=list, max_length=32, description="What each metric says about the candidate."
    )
    guardrails: list[GuardrailStatus] = Field(
        default_factory=list, max_length=16, description="What each guardrail says about the candidate."
    )
    evidence: Evidence | None = Field(
        default=None, description="The state of the tests; for the controller, which goes on with it."
    )
    last_rollback: RollbackRecord | None = Field(
        default=None, description="Why a version was last taken back."
    )
    killed: KillStatus | None = Field(
        default=None, description="The kill switch that keeps candidates from everybody, if one does."
    )
    draining: str = Field(
        default="",
        description="Name of the AgentRevision that was last taken off and whose answers go on, where they could be cut.",
    )
    rolled_back: Annotated[list[str], Field(max_length=100)] = Field(
        default_factory=list,
        description="Artifact IDs that were taken back and are not tried again, newest last.",
    )
    pause: Asked | None = Field(
        default=None,
        description="Who paused this candidate by a RolloutAction; spec.paused is another matter.",
    )
    approvals: Annotated[list[Approved], Field(max_length=200)] = Field(
        default_factory=list, description="Who has approved of this candidate, for which stage."
    )
    attempts: Annotated[list[Attempt], Field(max_length=100)] = Field(
        default_factory=list, description="How often artifacts were tried that somebody had tried anew."
    )
    actions: Annotated[list[ActionRecord], Field(max_length=100)] = Field(
        default_factory=list,
        description="What became of RolloutActions that do not show it themselves yet; written together with what they did.",
    )
    resolved: list[ResolvedReferences] = Field(
        default_factory=list,
        max_length=3,
        description="What spec.agent.promptsFrom led to, for the wanted version, stable and the candidate.",
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=8,
        description="Accepted, Programmed, Progressing, Healthy and, with something to compare, Drifted, with guardrails WithinLimits, with kill switches Killed; each with its "
        "reason and a message.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    @property
    def is_in_shadow(self) -> bool:
        """Whether the candidate only answers beside stable, to nobody."""
        return bool(self.stage and self.frozen and self.frozen.stages[self.stage.index].is_shadow)

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of this type, if it was ever set."""
        return next((c for c in self.conditions if c.type is kind), None)
