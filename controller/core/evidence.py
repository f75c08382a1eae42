"""What metrics' counts add to their tests.

An interval is weighed from scrape to scrape. What its scrapes said is tempered as a whole, and makes one step of the mixture over
start times, whatever the number of scrapes; but the evidence is looked at after each of them, and may suffice at any
(docs/adr/0039-every-scrape-is-looked-at.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import add

from controller.api.delivery import WHOLE_PPM, AdvanceOn, Analysis
from controller.api.status import Counts, MetricEvidence
from controller.core.controls import Clustering, noise_so_far, with_slices
from controller.core.counts import Events, Tallied
from controller.core.safety import SafetyTest, safety_log_e_values
from controller.core.soundness import CONTROL_RATIOS, control_intervals
from controller.core.statistics import (
    ODDS_RATIOS,
    HarmTest,
    Interval,
    log_e_value_against_reference,
    log_likelihoods_of_each,
    tolerated_rate,
)
from controller.core.verdict import Finding, Look, Safety

_RATIOS = (*ODDS_RATIOS, 1.0)
"""Of harm and of noise, whose alternatives are some of the same; the last is the null hypothesis of both."""

_NOISE_AT = [ODDS_RATIOS.index(ratio) for ratio in CONTROL_RATIOS]
_NO_EVIDENCE = (0.0,) * len(ODDS_RATIOS)
_NOTHING: Sequence[tuple[float, ...]] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What one metric counted from one scrape to the next; each of its tests has its own pair of counts.

    Attributes:
        candidate: The candidate's.
        baseline: Stable's; None where nobody is left to compare with.
        slices: Of each control slice; empty where there are none.
    """

    candidate: Sequence[Events]
    baseline: Sequence[Events] | None
    slices: Sequence[Sequence[Events]] = ()

    @property
    def is_sliced(self) -> bool:
        """Whether the slices say anything."""
        return self.baseline is not None and any(each.total for of_test in self.slices for each in of_test)

    @property
    def intervals(self) -> list[Interval]:
        """What has to be weighed: for each test both arms, then its slices."""
        if not self.baseline:
            return []
        both = [_interval(c, b) for c, b in zip(self.candidate, self.baseline, strict=True)]
        if not self.is_sliced:
            return both
        pairs = zip(self.slices, self.baseline, strict=True)
        return [*both, *(each for slices, stable in pairs for each in control_intervals(slices, stable))]


@dataclass(frozen=True, slots=True)
class Counted:
    """One metric before its counts are weighed.

    Attributes:
        state: Its tests so far.
        clustered: φ of each test.
        steps: What was counted in the interval; nothing if there was nothing new.
        until: The end of that interval, where the metric has one of its own.
    """

    state: MetricEvidence
    clustered: list[Clustering]
    steps: Sequence[Step] = ()
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Weighed:
    """One metric after its counts were weighed.

    Attributes:
        state: Its tests.
        e_value: E.
        looks: E and that of the A/A check after each scrape but the last.
    """

    state: MetricEvidence
    e_value: float
    looks: tuple[Look, ...] = ()


Watched = tuple[Counted, Callable[[Weighed], Finding]]
"""A metric, and what there is to say about it once it is weighed."""


def weighed(counted: Sequence[Counted], analysis: Analysis) -> list[Weighed]:
    """Each metric after one more interval.

    Working out likelihoods costs more for each call than for each interval, so those of all metrics are worked out together.

    Raises:
        UnknownStateError: If a stored test is not one of this version's.
    """
    intervals = [each for one in counted for step in one.steps for each in step.intervals]
    likelihoods = iter(log_likelihoods_of_each(intervals, _RATIOS))
    return [_weighed(each, likelihoods, analysis) for each in counted]


def _weighed(counted: Counted, likelihoods: Iterator[list[float]], analysis: Analysis) -> Weighed:
    state, steps, clustered = counted.state, counted.steps, counted.clustered
    if not steps:
        return Weighed(state, mean_e_value(state))
    whole = together(steps)
    harm = [HarmTest.decode(text) for text in state.tests] or [HarmTest() for _ in whole.candidate]
    references = state.reference or [Counts() for _ in whole.candidate]
    values, noise, looks = _NOTHING, _NOTHING, list[Look]()
    for number, step in enumerate(steps, 1):
        values = _added(values, _harm(step, references, likelihoods, clustered))
        if step.is_sliced:
            noise = _added(noise, [_noise(slices, likelihoods) for slices in step.slices])
        after = [test.after(e, *each) for test, e, each in zip(harm, values, clustered, strict=True)]
        e_value = sum(test.e_value for test in after) / len(after)
        if number < len(steps):
            looks.append(Look(e_value, noise_so_far(state, noise, clustered)))
    update: dict[str, object] = {"tests": [test.encode() for test in after], "reference": references}
    if counted.until:
        update["counted_until"] = counted.until
    if whole.baseline:
        update["reference"] = [summed(r, b) for r, b in zip(references, whole.baseline, strict=True)]
        if analysis.advance_on is AdvanceOn.EVIDENCE:
            update["safety"] = _safety(state, whole.candidate, whole.baseline, clustered, analysis)
        if noise:
            enough = max(e_value, WHOLE_PPM / analysis.false_rollback_rate)
            update["controls"] = with_slices(state, whole.slices, whole.baseline, noise, clustered, enough)
    return Weighed(state.model_copy(update=update), e_value, tuple(looks))


def together(steps: Sequence[Step]) -> Step:
    """The whole interval."""
    if len(steps) == 1:
        return steps[0]
    sliced = [step.slices for step in steps if step.slices]
    baselines = [step.baseline for step in steps if step.baseline is not None]
    return Step(
        _sums(step.candidate for step in steps),
        _sums(baselines) if baselines else None,
        [_sums(of_test) for of_test in zip(*sliced, strict=True)],
    )


def _sums(parts: Iterable[Sequence[Events]]) -> list[Tallied]:
    return [
        Tallied(sum(each.bad for each in same), sum(each.total for each in same))
        for same in zip(*parts, strict=True)
    ]


def _added(
    before: Sequence[tuple[float, ...]], more: Sequence[tuple[float, ...]]
) -> Sequence[tuple[float, ...]]:
    """Logarithms of the products of what was before and what came with a scrape."""
    if not before:
        return more
    return [tuple(map(add, one, other)) for one, other in zip(before, more, strict=True)]


def _harm(
    step: Step, references: list[Counts], likelihoods: Iterator[list[float]], clustered: list[Clustering]
) -> list[tuple[float, ...]]:
    """Natural logarithms of the e-values of each test."""
    if step.baseline:
        return [_against_null(next(likelihoods)) for _ in step.candidate]
    # Against the past only the last test says something: of latency's edges the one of the tail. A median moves
    # with the load, which has just grown.
    silent = [_NO_EVIDENCE] * (len(step.candidate) - 1)
    return [*silent, _against_reference(step.candidate[-1], references[-1], clustered[-1].phi)]


def _against_null(likelihoods: list[float]) -> tuple[float, ...]:
    *alternatives, null = likelihoods
    return tuple(each - null for each in alternatives)


def _noise(slices: Sequence[Events], likelihoods: Iterator[list[float]]) -> tuple[float, ...]:
    """See ``soundness.control_log_e_values``."""
    found = [next(likelihoods) for _ in slices]
    return tuple(each[at] - each[-1] for each in found for at in _NOISE_AT)


def _safety(
    state: MetricEvidence,
    candidate: Sequence[Events],
    baseline: Sequence[Events],
    clustered: list[Clustering],
    analysis: Analysis,
) -> list[str]:
    tests = [SafetyTest.decode(text) for text in state.safety] or [SafetyTest() for _ in candidate]
    values = [
        safety_log_e_values(_interval(c, b), analysis.max_ratio)
        for c, b in zip(candidate, baseline, strict=True)
    ]
    after = [test.after(e, *each) for test, e, each in zip(tests, values, clustered, strict=True)]
    return [test.encode() for test in after]


def safety_of(state: MetricEvidence, analysis: Analysis) -> Safety | None:
    """What was shown, if something has to be; of several tests each has to show it."""
    if analysis.advance_on is not AdvanceOn.EVIDENCE:
        return None
    shown = min((SafetyTest.decode(text).e_value for text in state.safety), default=1.0)
    return Safety(shown, analysis.max_ratio)


def _interval(candidate: Events, baseline: Events) -> Interval:
    return Interval(candidate.bad, candidate.total, baseline.bad, baseline.total)


def _against_reference(candidate: Events, reference: Counts, phi: float) -> tuple[float, ...]:
    tolerated = tolerated_rate(reference.bad, reference.total, phi)
    return tuple(
        log_e_value_against_reference(candidate.bad, candidate.total, ratio, tolerated)
        for ratio in ODDS_RATIOS
    )


def mean_e_value(state: MetricEvidence) -> float:
    """E of the metric: the mean over its tests; 1 before the first interval."""
    tests = [HarmTest.decode(text).e_value for text in state.tests]
    return sum(tests) / len(tests) if tests else 1.0


def summed(one: Events, other: Events) -> Counts:
    """Both together."""
    return Counts(bad=one.bad + other.bad, total=one.total + other.total)


def stored(events: Events) -> Counts:
    """The same for status."""
    return Counts(bad=events.bad, total=events.total)


def last_reference(state: MetricEvidence) -> Counts:
    """What the baseline had in the last stage with one; of several tests that of the last."""
    return state.reference[-1] if state.reference else Counts()
