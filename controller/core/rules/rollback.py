"""Take the candidate back on a failed verdict. Stands first: nothing may come before it."""

from __future__ import annotations

from controller.api.reasons import Reason, Verdict
from controller.api.status import RollbackRecord
from controller.core.outcome import Outcome, Report, View

KEPT_ROLLED_BACK = 100
"""How many taken-back artifacts are remembered; the oldest is forgotten first."""


def rollback(view: View) -> Outcome | None:
    """Fail -> weight 0 in this very plan, and never again for this artifact by itself."""
    found = _failed_metric(view)
    if found is None:
        return None
    metric, message = found
    artifact = view.candidate.artifact_id
    record = RollbackRecord(
        artifact_id=artifact,
        reason=Reason.ANALYSIS_FAILED,
        metric=metric,
        message=message,
        at=view.now,
        stage=view.status.stage.title if view.status.stage else "",
    )
    remembered = [known for known in view.status.rolled_back if known != artifact]
    status = view.without_candidate().model_copy(
        update={
            "last_rollback": record,
            "rolled_back": [*remembered, artifact][-KEPT_ROLLED_BACK:],
            "analysis": view.status.analysis,
            "verdict": Verdict.FAIL,
        }
    )
    text = f"{view.candidate.revision} was taken back at {record.stage}: {metric} is {message}"
    return Outcome(
        status,
        progressing=Report("False", Reason.ROLLING_BACK, text),
        healthy=Report("False", Reason.ROLLED_BACK, text),
    )


def _failed_metric(view: View) -> tuple[str, str] | None:
    candidate, latch = view.status.candidate, view.snapshot.latch
    if candidate is None:
        return None
    # A cut that was pushed stays decided, whatever later samples say before it is stored.
    latched = latch and latch.metric and (latch.artifact_id, latch.attempt)
    if latch and latched == (candidate.artifact_id, candidate.attempt):
        return latch.metric, latch.message
    failed = next((m for m in view.status.analysis if m.verdict is Verdict.FAIL), None)
    return (failed.name, failed.message) if failed else None
