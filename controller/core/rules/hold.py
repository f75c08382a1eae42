"""Stay in the stage: its time is not over, or its evidence does not suffice."""

from __future__ import annotations

from controller.api.guardrails import GuardrailAction
from controller.api.quantities import format_time
from controller.api.reasons import Reason, Verdict
from controller.api.shadow import InsufficientAction
from controller.api.status import RolloutStatus
from controller.core.entry import waits
from controller.core.guardrails import is_held
from controller.core.inconclusive import inconclusive
from controller.core.outcome import Outcome, Report, View
from controller.core.reading import is_overridden
from controller.core.stages import stage_end


def hold(view: View) -> Outcome | None:
    """Anything but passing evidence, read in this very plan, after minDuration."""
    report = _in_shadow(view) if view.status.is_in_shadow else _report(view, excused=False)
    return Outcome(view.status, report) if report else None


def _report(view: View, *, excused: bool) -> Report | None:
    """What keeps the candidate where it is; ``excused`` from evidence that says too little."""
    if view.stage.promoted:
        return _failing(view.status) or _overridden(view)
    status, end = view.status, stage_end(view.stage, view.snapshot.stages)
    if status.evidence is not None and status.evidence.problem:
        return Report("True", Reason.ANALYSIS_BLIND, f"the weight is held: {status.evidence.problem}")
    if not excused and (lacking := _lacking(status)):
        return lacking
    if view.now < end:
        until = f"stage {view.stage.title} goes on until {format_time(end)}"
        return Report("True", Reason.AWAITING_EVIDENCE, until)
    if view.snapshot.samples is None:
        until = f"stage {view.stage.title} awaits its next evaluation"
        # Approvals and windows are told between evaluations too, or the reason would change to and fro.
        return _overridden(view) or waits(view) or Report("True", Reason.AWAITING_EVIDENCE, until)
    return _overridden(view)


def _overridden(view: View) -> Report | None:
    samples, said = view.snapshot.samples, view.progressing
    if samples is None:
        return said if said.reason is Reason.BREAK_GLASS else None
    if not is_overridden(samples.series, view.catalogue):
        return None
    words = "the weight is held: the splits of a router are overridden by hand (break-glass)"
    return Report("True", Reason.BREAK_GLASS, words)


def _failing(status: RolloutStatus) -> Report | None:
    """A broken limit that holds the weight, which nobody promotes against; what takes back is asked before."""
    broken = next(
        (
            each
            for each in status.guardrails
            if each.verdict is Verdict.FAIL and each.action is GuardrailAction.HOLD
        ),
        None,
    )
    if broken is None:
        return None
    return Report("True", Reason.GUARDRAIL_BROKEN, f"{broken.name} limit: {broken.message}")


def _lacking(status: RolloutStatus) -> Report | None:
    """The first metric, else guardrail, that does not let the stage pass."""
    metric = next((each for each in status.analysis if each.verdict is not Verdict.PASS), None)
    if metric:
        return Report("True", metric.reason or Reason.AWAITING_EVIDENCE, f"{metric.name}: {metric.message}")
    limit = next(filter(is_held, status.guardrails), None)
    if limit:
        return Report(
            "True", limit.reason or Reason.AWAITING_EVIDENCE, f"{limit.name} limit: {limit.message}"
        )
    return None


def _in_shadow(view: View) -> Report | None:
    """What keeps a candidate that serves nobody yet: it is no matter of weight."""
    if view.stage.regression:
        words = f"{view.candidate.revision} stays in the shadow: {view.stage.regression}"
        return Report("True", Reason.SHADOW_REGRESSION, words)
    ended = inconclusive(view)
    report = _report(view, excused=ended is not None and ended[0] is InsufficientAction.ADVANCE)
    if report is None or report.reason is not Reason.AWAITING_EVIDENCE:
        return report
    if ended:
        return Report("True", Reason.SHADOW_INCONCLUSIVE, ended[1])
    return Report("True", Reason.SHADOWING, report.message)
