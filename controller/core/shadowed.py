"""What comparisons say of a candidate whose answers nobody gets.

A candidate that is worse loses more of them than stable loses against itself, and more than it wins. Each alone is no
harm: a version that answers otherwise loses more often, and wins more often too; and what mirrored requests lack makes stable's
second answers lose as well. So the evidence is the smaller of two e-values, which is one wherever either of the two
hypotheses is true. Without stable's second answers there are only losses and wins.

docs/adr/0035-comparisons-as-evidence.md has the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from controller.api.delivery import WHOLE_PPM, AdvanceOn, Analysis
from controller.api.reasons import Verdict
from controller.api.shadow import SHADOW, Shadow
from controller.api.status import Counts, MetricEvidence, MetricStatus, RolloutStatus, VersionRef
from controller.core.agents import FIT, MEASURED, shadow_definition
from controller.core.catalogue import CounterTerm
from controller.core.counts import Span, UnusableSamplesError
from controller.core.evidence import summed
from controller.core.reports import NotReportedError, Reports, StaleReportsError
from controller.core.safety import SafetyTest, safety_log_e_values, sign_safety_log_e_values
from controller.core.shadow.comparison import COMPARISONS, JUDGED, Bin
from controller.core.signs import SignTest, sign_log_e_values
from controller.core.snapshot import Snapshot
from controller.core.statistics import HarmTest, Interval, harm_log_e_values
from controller.core.verdict import Finding, Safety

ENOUGH_NOISE = 5
LONGEST = timedelta(minutes=5)
"""An interval goes on until so many of stable's second answers were judged, but not longer than this.

Both arms are compared within an interval, so that one without any of them would say nothing.
"""

NAMED_BINS = 3
"""So many ends without a verdict are told one by one."""

_LOOK_FOR = "look for what mirrored requests lack, since credentials are removed from them, or for a judge that favours one side"


@dataclass(frozen=True, slots=True)
class _Judged:
    """Comparisons of one version with stable's answers that were judged in an interval."""

    losses: int
    wins: int
    total: int

    @property
    def lost(self) -> Counts:
        """As events of which losses are the bad ones."""
        return Counts(bad=self.losses, total=self.total)

    @property
    def won(self) -> Counts:
        """The same seen from stable, whose losses are the wins."""
        return Counts(bad=self.wins, total=self.total)


@dataclass(frozen=True, slots=True)
class _Said:
    """What one evaluation adds.

    Attributes:
        state: The tests after it.
        candidate: The candidate's comparisons in the interval.
        noise: Those of stable's second answers; None without any.
        lost: How comparisons end otherwise than by a verdict, in words.
        problem: Why nothing was added.
        verdict: What that makes of the metric.
    """

    state: MetricEvidence
    candidate: _Judged = _Judged(0, 0, 0)
    noise: _Judged | None = None
    lost: str = ""
    problem: str = ""
    verdict: Verdict = Verdict.ERROR


def count_comparisons(
    snapshot: Snapshot, status: RolloutStatus, known: MetricEvidence | None, not_before: float
) -> tuple[MetricEvidence, Finding]:
    """The state and the finding of the metric ``shadow`` after this evaluation, for a rollout with a shadow.

    Args:
        snapshot: The rollout and the metric source's answer.
        status: Before this evaluation.
        known: The tests before it.
        not_before: Movements that may have begun before this instant belong to another split.

    Raises:
        UnknownStateError: If a stored test is not one of this version's.
    """
    assert status.frozen is not None  # noqa: S101  the caller looked
    assert status.frozen.shadow is not None  # noqa: S101  likewise
    shadow, before = status.frozen.shadow, known or MetricEvidence(name=SHADOW)
    try:
        said = _said(snapshot, status, shadow, before, not_before)
    except NotReportedError as error:
        said = _Said(before, problem=str(error), verdict=_unreported(snapshot, status, shadow))
    except (StaleReportsError, UnusableSamplesError) as error:
        said = _Said(before, problem=str(error))
    finding = _finding(snapshot.analysis, status, shadow, said)
    return said.state, replace(finding, before=comparison_e_value(before))


def _unreported(snapshot: Snapshot, status: RolloutStatus, shadow: Shadow) -> Verdict:
    """At first it is only waited for who compares. In the end that is no lack of comparisons, on which a policy could act."""
    assert snapshot.samples is not None  # noqa: S101  the caller looked
    assert status.stage is not None  # noqa: S101  likewise
    began = status.stage.programmed_at or status.stage.entered_at
    is_over = status.is_in_shadow and snapshot.samples.at >= began + shadow.max_duration
    return Verdict.ERROR if is_over else Verdict.INSUFFICIENT


def comparison_e_value(state: MetricEvidence) -> float:
    """E of the metric ``shadow``: 1 before the first interval.

    Raises:
        UnknownStateError: If a stored test is not one of this version's.
    """
    signs = _signs(state, 0).e_value
    return min(signs, HarmTest.decode(state.tests[0]).e_value) if state.tests else signs


def _finding(analysis: Analysis, status: RolloutStatus, shadow: Shadow, said: _Said) -> Finding:
    so_far = next((m for m in status.analysis if m.name == SHADOW), None)
    shown = so_far or MetricStatus(name=SHADOW, verdict=Verdict.INSUFFICIENT)
    beside = said.noise.lost if said.noise else Counts() if shadow.noise else said.candidate.won
    return Finding(
        name=SHADOW,
        candidate=summed(shown.candidate, said.candidate.lost),
        baseline=summed(shown.baseline, beside),
        e_value=comparison_e_value(said.state),
        compared=True,
        own=status.is_in_shadow,
        min_requests=shadow.min_comparisons,
        clustering=shadow.clustering,
        safety=_safety(said.state, analysis),
        control=_signs(said.state, 1).e_value if shadow.noise else 1.0,
        unit="comparisons",
        problem=said.problem,
        problem_verdict=said.verdict,
        is_paired=not shadow.noise,
        wins=(shown.wins or 0) + said.candidate.wins if shadow.noise else None,
        lost=said.lost,
        look_for=_LOOK_FOR,
    )


def _said(
    snapshot: Snapshot, status: RolloutStatus, shadow: Shadow, state: MetricEvidence, not_before: float
) -> _Said:
    """The interval that follows on what was counted before.

    Raises:
        NotReportedError: If there are no counters of a version, or nothing of the judge.
        StaleReportsError: If there are none of the present, or they could not be read.
        UnusableSamplesError: If a newest sample is not a finite number of events.
    """
    samples, candidate, stable = snapshot.samples, status.candidate, status.stable
    assert samples is not None  # noqa: S101  the caller looked
    assert candidate is not None  # noqa: S101  likewise
    assert stable is not None  # noqa: S101  likewise
    if samples.reports_problem:
        raise StaleReportsError(samples.reports_problem)
    definition = shadow_definition(snapshot.rollout.metadata.key)
    reports = Reports.of(definition, samples.reports, snapshot.rollout.metadata.namespace)
    compared = (candidate, stable) if shadow.noise else (candidate,)
    span = reports.span(samples.at, compared, state.counted_until, not_before)
    unfit = _unfit(reports, candidate, shadow.judge, samples.at.timestamp())
    if span is None:
        return _Said(state, problem=unfit)
    until = datetime.fromtimestamp(span.until, UTC)
    if unfit:
        # What it said in between, if anything, is no evidence either.
        return _Said(state.model_copy(update={"counted_until": until}), problem=unfit)
    lost = _lost(reports, candidate, replace(span, after=not_before))
    found = _judged(reports, candidate, span)
    noise = _judged(reports, stable, span) if shadow.noise else None
    is_short = span.until - max(span.after, span.not_before) < LONGEST.total_seconds()
    if noise and noise.total < ENOUGH_NOISE and is_short:
        return _Said(state, lost=lost)
    after = _updated(state, found, noise, shadow.clustering, snapshot.analysis)
    return _Said(after.model_copy(update={"counted_until": until}), found, noise, lost)


def _updated(
    state: MetricEvidence, candidate: _Judged, noise: _Judged | None, phi: float, analysis: Analysis
) -> MetricEvidence:
    """The tests after one more interval."""
    signs = [_signs(state, 0).after(sign_log_e_values(candidate.losses, candidate.wins), phi).encode()]
    update = {"signs": signs}
    interval = Interval(
        candidate.losses, candidate.total, noise.losses if noise else 0, noise.total if noise else 0
    )
    if noise:
        harm = HarmTest.decode(state.tests[0]) if state.tests else HarmTest()
        update["tests"] = [harm.after(harm_log_e_values(interval), phi).encode()]
        check = _signs(state, 1).after(sign_log_e_values(noise.losses, noise.wins), phi)
        enough = max(comparison_e_value(state), WHOLE_PPM / analysis.false_rollback_rate)
        signs.append(check.forgetting(enough).encode())
    if analysis.advance_on is AdvanceOn.EVIDENCE:
        values = [sign_safety_log_e_values(candidate.losses, candidate.wins, analysis.max_ratio)]
        if noise:
            values.append(safety_log_e_values(interval, analysis.max_ratio))
        tests = [SafetyTest.decode(text) for text in state.safety] or [SafetyTest() for _ in values]
        update["safety"] = [test.after(e, phi).encode() for test, e in zip(tests, values, strict=True)]
    return state.model_copy(update=update)


def _safety(state: MetricEvidence, analysis: Analysis) -> Safety | None:
    """A version is safe if either is shown, since only both together are harm; the mean of two e-values is one."""
    if analysis.advance_on is not AdvanceOn.EVIDENCE:
        return None
    shown = [SafetyTest.decode(text).e_value for text in state.safety] or [1.0]
    return Safety(sum(shown) / len(shown), analysis.max_ratio)


def _signs(state: MetricEvidence, number: int) -> SignTest:
    return SignTest.decode(state.signs[number]) if number < len(state.signs) else SignTest()


def _judged(reports: Reports, version: VersionRef, span: Span) -> _Judged:
    ends = {end: _count(reports, version, span, end) for end in JUDGED}
    return _Judged(ends[Bin.LOSS], ends[Bin.WIN], sum(ends.values()))


def _count(reports: Reports, version: VersionRef, span: Span, *ends: Bin) -> int:
    terms = tuple(CounterTerm(COMPARISONS, (("bin", end.value),)) for end in ends)
    definition = replace(reports.definition, total=terms, bad=())
    return replace(reports, definition=definition).counts(version, [], span)[0].total


def _lost(reports: Reports, candidate: VersionRef, span: Span) -> str:
    """The ends without a verdict that lately were most frequent."""
    ends = {end: _count(reports, candidate, span, end) for end in Bin if end not in JUDGED}
    most = sorted((end for end in ends if ends[end]), key=lambda end: -ends[end])[:NAMED_BINS]
    return ", ".join(f"{ends[end]} as {end}" for end in most)


def _unfit(reports: Reports, candidate: VersionRef, judge: str, at: float) -> str:
    """Why the judge's verdicts do not count; empty if they do.

    Raises:
        NotReportedError: If no process has said yet whether the judge is fit.
    """
    told = [
        (one.labels, one.samples[-1][1])
        for one in reports.living(candidate, at)
        if one.labels.get("judge") == judge
    ]
    fit = [(labels, value) for labels, value in told if labels["__name__"] == FIT]
    if not fit:
        raise NotReportedError(
            f"no process of agentrollout shadow has said yet whether the judge {judge} is fit to judge"
        )
    if any(value for _, value in fit):
        return ""
    artifact = fit[0][0].get("artifact", "")
    if not artifact:
        return f"agentrollout shadow knows no judge {judge}: name one of its --judges in spec.shadow.judge"
    measured = {
        labels.get("measure", ""): value
        for labels, value in told
        if labels["__name__"] == MEASURED and labels.get("artifact", "") == artifact
    }
    return f"the judge {judge} ({artifact[:19]}) is not fit to judge{_figures(measured.items())}"


def _figures(measured: Iterable[tuple[str, float]]) -> str:
    told = ", ".join(f"{measure} {100 * value:.3g} %" for measure, value in sorted(measured))
    return f": {told} on its labelled pairs" if told else ""
