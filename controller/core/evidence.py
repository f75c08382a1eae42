"""What one metric's counts add to its tests."""

from __future__ import annotations

from controller.api.delivery import AdvanceOn, Analysis
from controller.api.status import Counts, MetricEvidence
from controller.core.controls import Clustering
from controller.core.safety import SafetyTest, safety_log_e_values
from controller.core.statistics import (
    ODDS_RATIOS,
    HarmTest,
    Interval,
    harm_log_e_values_of_each,
    log_e_value_against_reference,
    tolerated_rate,
)
from controller.core.verdict import Safety

_NO_EVIDENCE = (0.0,) * len(ODDS_RATIOS)


def updated(
    state: MetricEvidence,
    candidate: list[Counts],
    baseline: list[Counts] | None,
    clustered: list[Clustering],
    analysis: Analysis,
) -> tuple[MetricEvidence, float]:
    """The metric's tests after one more interval, and E; each test has its own pair of counts, and its own clustering."""
    if baseline and analysis.advance_on is AdvanceOn.EVIDENCE:
        state = _with_safety(state, candidate, baseline, clustered, analysis)
    tests = [HarmTest.decode(text) for text in state.tests] or [HarmTest() for _ in candidate]
    references = state.reference or [Counts() for _ in candidate]
    if baseline:
        values = harm_log_e_values_of_each(
            [_interval(c, b) for c, b in zip(candidate, baseline, strict=True)]
        )
    else:
        # Against the past only the last test says something: of latency's edges the one of the tail. A median moves
        # with the load, which has just grown.
        silent = [_NO_EVIDENCE] * (len(candidate) - 1)
        values = [*silent, _against_reference(candidate[-1], references[-1], clustered[-1].phi)]
    after = [test.after(e, *each) for test, e, each in zip(tests, values, clustered, strict=True)]
    if baseline:
        references = [summed(r, b) for r, b in zip(references, baseline, strict=True)]
    update = {"tests": [test.encode() for test in after], "reference": references}
    return state.model_copy(update=update), sum(test.e_value for test in after) / len(after)


def _with_safety(
    state: MetricEvidence,
    candidate: list[Counts],
    baseline: list[Counts],
    clustered: list[Clustering],
    analysis: Analysis,
) -> MetricEvidence:
    tests = [SafetyTest.decode(text) for text in state.safety] or [SafetyTest() for _ in candidate]
    values = [
        safety_log_e_values(_interval(c, b), analysis.max_ratio)
        for c, b in zip(candidate, baseline, strict=True)
    ]
    after = [test.after(e, *each) for test, e, each in zip(tests, values, clustered, strict=True)]
    return state.model_copy(update={"safety": [test.encode() for test in after]})


def safety_of(state: MetricEvidence, analysis: Analysis) -> Safety | None:
    """What was shown, if something has to be; of several tests each has to show it."""
    if analysis.advance_on is not AdvanceOn.EVIDENCE:
        return None
    shown = min((SafetyTest.decode(text).e_value for text in state.safety), default=1.0)
    return Safety(shown, analysis.max_ratio)


def _interval(candidate: Counts, baseline: Counts) -> Interval:
    return Interval(candidate.bad, candidate.total, baseline.bad, baseline.total)


def _against_reference(candidate: Counts, reference: Counts, phi: float) -> tuple[float, ...]:
    tolerated = tolerated_rate(reference.bad, reference.total, phi)
    return tuple(
        log_e_value_against_reference(candidate.bad, candidate.total, ratio, tolerated)
        for ratio in ODDS_RATIOS
    )


def mean_e_value(state: MetricEvidence) -> float:
    """E of the metric: the mean over its tests; 1 before the first interval."""
    tests = [HarmTest.decode(text).e_value for text in state.tests]
    return sum(tests) / len(tests) if tests else 1.0


def summed(one: Counts, other: Counts) -> Counts:
    """Both together."""
    return Counts(bad=one.bad + other.bad, total=one.total + other.total)


def last_reference(state: MetricEvidence) -> Counts:
    """What the baseline had in the last stage with one; of several tests that of the last."""
    return state.reference[-1] if state.reference else Counts()
