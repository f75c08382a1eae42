"""Condition types, reasons and verdicts. They are API: documented here and nowhere else, never renamed."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition speaks about; each is True, False or Unknown."""

    ACCEPTED = "Accepted"
    """The spec is valid and everything it refers to was found."""
    PROGRAMMED = "Programmed"
    """The data plane acknowledged the wanted split."""
    PROGRESSING = "Progressing"
    """A candidate is on its way."""
    HEALTHY = "Healthy"
    """The latest artifact is stable and serving."""
    DRIFTED = "Drifted"
    """Something in production is no longer what the version was made of."""


class Reason(StrEnum):
    """Why a condition is as it is."""

    ACCEPTED = "Accepted"
    """Accepted=True: the spec is valid."""
    INVALID = "Invalid"
    """Accepted=False, Progressing=False: a field is wrong in a way that the CRD's schema cannot see."""
    CONFLICTED = "Conflicted"
    """Accepted=False, Progressing=False: an older AgentRollout already serves one of the hosts."""
    HOST_NOT_ALLOWED = "HostNotAllowed"
    """Accepted=False, Progressing=False: the operator's allow-list does not give this host to the namespace."""
    SAME_BACKEND = "SameBackend"
    """Accepted=False, Progressing=False: the backend was deployed for the stable artifact or the candidate."""
    REF_NOT_FOUND = "RefNotFound"
    """Accepted=False, Progressing=False: something that the spec refers to is not there; the message names the field."""
    BACKEND_NOT_ALLOWED = "BackendNotAllowed"
    """Accepted=False, Progressing=False: the operator's allow-list does not have the host of code.url."""

    PROGRAMMED = "Programmed"
    """Programmed=True: every connected router instance serves the wanted split."""
    PENDING = "Pending"
    """Programmed=False: the split was sent and is not acknowledged yet, or was refused."""
    ROUTER_UNAVAILABLE = "RouterUnavailable"
    """Programmed=False: no router instance is connected."""

    NEW_ARTIFACT = "NewArtifact"
    """Progressing=True: a new artifact became the candidate."""
    STAGE_STARTED = "StageStarted"
    """Progressing=True: the candidate entered a stage."""
    AWAITING_EVIDENCE = "AwaitingEvidence"
    """Progressing=True: waiting for the router, for stable's past, or for the stage's time and evidence; the message says."""
    AWAITING_ENDPOINTS = "AwaitingEndpoints"
    """Progressing=True: the candidate serves nobody yet, because no endpoint of its Service is ready, or their images are not known."""
    ANALYSIS_BLIND = "AnalysisBlind"
    """Progressing=True: the evidence cannot be read, so the weight is held."""
    PAUSED = "Paused"
    """Progressing=True: spec.paused is set, so no weight rises; the candidate is still watched."""
    BREAK_GLASS = "BreakGlass"
    """Progressing=True: a router's splits are overridden by hand, so the weight is held; as lastRollback: the version was taken back that way."""
    ROLLING_BACK = "RollingBack"
    """Progressing=False: the candidate was just taken back; the data plane was told first."""
    PROMOTING = "Promoting"
    """Progressing=True: the candidate passed its last stage and becomes stable."""
    SUPERSEDED = "Superseded"
    """Progressing=False: a newer artifact replaced the candidate."""
    CANCELLED = "Cancelled"
    """Progressing=False: the spec went back to the stable artifact."""
    IDLE = "Idle"
    """Progressing=False: there is nothing to deliver."""

    INITIALISED = "Initialised"
    """Healthy=True: the first artifact became stable at once."""
    PROMOTED = "Promoted"
    """Healthy=True: the wanted artifact is stable, having passed every stage or being stable again."""
    ROLLED_BACK = "RolledBack"
    """Healthy=False, Progressing=False: the wanted artifact was taken back; stable serves."""
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    """Healthy=False, lastRollback: the candidate made no progress for longer than spec.progressDeadline."""
    IN_PROGRESS = "InProgress"
    """Healthy=Unknown: the latest artifact is still being delivered."""

    IMAGE_CHANGED = "ImageChanged"
    """Drifted=True, lastRollback: pods behind the Service run an image that was not there when the version was frozen."""
    UNCHANGED = "Unchanged"
    """Drifted=False: everything is what the version was made of."""

    ANALYSIS_FAILED = "AnalysisFailed"
    """lastRollback: a metric showed that the candidate is worse than stable."""
    NO_ENDPOINTS = "NoEndpoints"
    """lastRollback: the last ready endpoint of the Service behind the serving candidate went away."""


class Verdict(StrEnum):
    """What one metric says about the candidate."""

    PASS = "Pass"  # noqa: S105  not a password
    """Fresh and sufficient evidence, and none of harm."""
    FAIL = "Fail"
    """The evidence of harm reached the threshold."""
    INSUFFICIENT = "Insufficient"
    """Fresh, but too little to say anything."""
    ERROR = "Error"
    """The evidence could not be read, or is not fit to decide on."""


class State(StrEnum):
    """One word for people, derived from everything else; shown by ``kubectl get``."""

    STABLE = "Stable"
    """The wanted artifact is stable."""
    PENDING = "Pending"
    """Nothing has been decided yet."""
    PREPARING = "Preparing"
    """A candidate was accepted and serves nobody yet."""
    PROGRESSING = "Progressing"
    """The candidate serves a stage."""
    BAKING = "Baking"
    """The candidate serves everyone and is still watched."""
    PAUSED = "Paused"
    """A candidate is on its way and spec.paused is set; no weight rises."""
    BLIND = "Blind"
    """The evidence cannot be read; the weight is held."""
    ROLLED_BACK = "RolledBack"
    """The wanted artifact was taken back; stable serves."""
    REJECTED = "Rejected"
    """The spec was not accepted; what served before still serves."""
