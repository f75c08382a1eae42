"""Stay in the stage: its time is not over, or its evidence does not suffice."""

from __future__ import annotations

from controller.api.quantities import format_duration
from controller.api.reasons import Reason, Verdict
from controller.core.outcome import Outcome, Report, View
from controller.core.stages import stage_end


def hold(view: View) -> Outcome | None:
    """Anything but passing evidence, read in this very plan, after minDuration."""
    report = _report(view)
    return Outcome(view.status, report) if report else None


def _report(view: View) -> Report | None:
    status, end = view.status, stage_end(view.status, view.snapshot.stages)
    blind = status.evidence.problem if status.evidence else ""
    if status.verdict is Verdict.ERROR:
        return Report("True", Reason.ANALYSIS_BLIND, f"the weight is held: {blind}")
    lacking = next((m for m in status.analysis if m.verdict is not Verdict.PASS), None)
    if lacking:
        return Report("True", Reason.AWAITING_EVIDENCE, f"{lacking.name}: {lacking.message}")
    if end is None or view.now < end:
        left = f", {format_duration(end - view.now)} left" if end else ""
        return Report("True", Reason.AWAITING_EVIDENCE, f"stage {_title(view)} goes on{left}")
    if view.snapshot.samples is None or status.verdict is None:
        return Report("True", Reason.AWAITING_EVIDENCE, f"stage {_title(view)} awaits its next evaluation")
    return None


def _title(view: View) -> str:
    return view.status.stage.title if view.status.stage else ""
