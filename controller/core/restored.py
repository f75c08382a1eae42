"""Stored evidence as far as this version can go on with it.

Without the test of harm nobody would know what was proved already, so that its state alone is left for its reader to
refuse. All others begin anew where theirs cannot be read, each in the direction that is safe: what is not yet shown holds
the weight, a check that knows nothing takes nothing off the evidence of harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.api.status import Evidence, GuardrailEvidence, MetricEvidence
from controller.core.controls import decoded
from controller.core.mixture import UnknownStateError
from controller.core.safety import SafetyTest
from controller.core.soundness import SplitTest
from controller.core.statistics import HarmTest


def readable(evidence: Evidence) -> Evidence:
    """The evidence without the states of control slices, splits, safety and guardrails that cannot be read."""
    return evidence.model_copy(
        update={
            "metrics": [_metric(each) for each in evidence.metrics],
            "splits": [each for each in evidence.splits if _reads(SplitTest.decode, [each.test])],
            "guardrails": [_guardrail(each) for each in evidence.guardrails],
        }
    )


def _metric(state: MetricEvidence) -> MetricEvidence:
    unread: dict[str, list[str]] = {}
    if not _reads(decoded, state.controls):
        unread["controls"] = []
    if not _reads(SafetyTest.decode, state.safety):
        unread["safety"] = []
    return state.model_copy(update=unread) if unread else state


def _guardrail(state: GuardrailEvidence) -> GuardrailEvidence:
    stored = {"test": state.test, "baseline": state.baseline}
    unread = {name: "" for name, text in stored.items() if text and not _reads(HarmTest.decode, [text])}
    return state.model_copy(update=unread) if unread else state


def _reads(decode: Callable[[str], object], texts: Iterable[str]) -> bool:
    try:
        for text in texts:
            decode(text)
    except UnknownStateError:
        return False
    return True
