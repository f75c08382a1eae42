"""A realistic status in the middle of a delivery, as the controller writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.api.delivery import Analysis, Audience, MetricName, Stage
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import (
    CandidateRef,
    Condition,
    Counts,
    Evidence,
    Frozen,
    MetricEvidence,
    MetricStatus,
    RollbackRecord,
    RolloutStatus,
    StageStatus,
    VersionRef,
)
from devkit.controlplane import ControlPlane

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
STABLE, CANDIDATE = "sha256:3f9a1c2b7d" + "0" * 54, "sha256:b81c55e0aa" + "0" * 54
MESSAGE = "latency: 812 of 1000 requests counted: candidate 40/812 (4.93 %), baseline 350/7304 (4.79 %), e-value 0.31 of 200"


def patch_status(
    control_plane: ControlPlane,
    namespace: str,
    status: dict[str, Any],
    *,
    kind: str = "aro",
    name: str = "support-agent",
) -> None:
    """Write some of an object's status, as its controller would."""
    patch = f"--patch={json.dumps({'status': status})}"
    control_plane.kubectl("patch", kind, name, "-n", namespace, "--subresource=status", "--type=merge", patch)


def progressing() -> dict[str, Any]:
    """The candidate is in the 10 % stage, and its latency has not been seen often enough."""
    conditions = [
        (ConditionType.ACCEPTED, "True", Reason.ACCEPTED, "the spec is valid"),
        (
            ConditionType.PROGRAMMED,
            "True",
            Reason.PROGRAMMED,
            "1 router instance acknowledged the wanted split",
        ),
        (ConditionType.PROGRESSING, "True", Reason.AWAITING_EVIDENCE, MESSAGE),
        (ConditionType.HEALTHY, "Unknown", Reason.IN_PROGRESS, "support-agent-b81c55e0aa is being delivered"),
    ]
    status = RolloutStatus(
        observed_generation=4,
        state=State.PROGRESSING,
        verdict=Verdict.INSUFFICIENT,
        stable=VersionRef(revision="support-agent-3f9a1c2b7d", artifact_id=STABLE),
        candidate=CandidateRef(revision="support-agent-b81c55e0aa", artifact_id=CANDIDATE),
        stage=StageStatus(
            index=2, title="10%", weight=100_000, entered_at=NOW, programmed_at=NOW, requests=812
        ),
        weight=100_000,
        programmed=100_000,
        frozen=Frozen(
            stages=[
                Stage(name="internal", audience=Audience(header="x-user-group", values=["internal"])),
                Stage(weight=10_000),
                Stage(weight=100_000, min_duration=timedelta(minutes=30)),
                Stage(weight=1_000_000, min_duration=timedelta(hours=1)),
            ],
            analysis=Analysis(),
        ),
        analysis=[
            MetricStatus(
                name=MetricName.ERRORS,
                verdict=Verdict.PASS,
                candidate=Counts(bad=9, total=812),
                baseline=Counts(bad=71, total=7304),
                evidence=0.42,
                threshold=200,
                message="no harm found: candidate 9/812 (1.11 %), baseline 71/7304 (0.972 %), e-value 0.42 of 200",
            ),
            MetricStatus(
                name=MetricName.LATENCY, verdict=Verdict.INSUFFICIENT, message=MESSAGE.partition(": ")[2]
            ),
        ],
        evidence=Evidence(
            evaluated_at=NOW,
            counted_until=NOW,
            metrics=[MetricEvidence(name=MetricName.ERRORS, tests=["1;0.1,0.2"])],
        ),
        last_rollback=RollbackRecord(
            artifact_id="sha256:" + "9" * 64,
            reason=Reason.ANALYSIS_FAILED,
            metric=MetricName.ERRORS,
            message="worse than stable: candidate 33/640 (5.16 %), baseline 58/5800 (1 %), e-value 377 of 200",
            at=NOW - timedelta(days=1),
            stage="1%",
        ),
        rolled_back=["sha256:" + "9" * 64],
        conditions=[
            Condition(
                type=kind,
                status=state,
                reason=reason,
                message=text,
                last_transition_time=NOW,
                observed_generation=4,
            )
            for kind, state, reason, text in conditions
        ],
    )
    return status.to_json()
