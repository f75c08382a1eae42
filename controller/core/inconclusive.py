"""Comparisons in the shadow that still say too little when they were waited for long enough."""

from __future__ import annotations

from controller.api.quantities import format_duration
from controller.api.reasons import Verdict
from controller.api.shadow import InsufficientAction
from controller.core.outcome import View
from controller.core.verdict import SUSPICION


def inconclusive(view: View) -> tuple[InsufficientAction, str] | None:
    """What is to follow, and why; None while they are waited for, pass, fail, or cannot be read.

    Nobody advances whom the comparisons suspect to be worse.
    """
    status, shadow = view.status, view.status.frozen.shadow if view.status.frozen else None
    if shadow is None or not status.is_in_shadow or status.verdict is not Verdict.INSUFFICIENT:
        return None
    programmed = view.stage.programmed_at
    if programmed is None or view.now < programmed + shadow.max_duration:
        return None
    suspected = any(metric.evidence >= SUSPICION for metric in status.analysis)
    action = shadow.on_insufficient
    if action is InsufficientAction.ADVANCE and suspected:
        action = InsufficientAction.HOLD
    said = "; ".join(metric.message for metric in status.analysis)
    waited = format_duration(shadow.max_duration)
    return action, f"comparisons say too little after {waited} (spec.shadow.maxDuration): {said}"
