"""From counts to one of four verdicts, with the sentence that explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from controller.api.reasons import Reason, Verdict
from controller.api.status import Counts, GuardrailStatus, MetricStatus
from controller.core.detectable import min_detectable_ratio, min_detectable_ratio_against_rate
from controller.core.safety import THRESHOLD as SAFE
from controller.core.signs import smallest_odds
from controller.core.soundness import beyond_noise, is_noisy
from controller.core.statistics import tolerated_rate

SUSPICION = 3.0
"""An e-value from which on a stage does not pass: few requests cannot prove harm, and must not hide it either.

A version that is no worse is at 3 or above with a probability of at most one third, and comes down again.
"""

_SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.INSUFFICIENT, Verdict.PASS)


@dataclass(frozen=True, slots=True)
class Safety:
    """What is known about a candidate's safety, where it has to be shown.

    Attributes:
        e_value: E' of the safety test.
        max_ratio: The odds ratio that has to be ruled out.
    """

    e_value: float
    max_ratio: float


class Look(NamedTuple):
    """The evidence of one metric at one instant.

    Attributes:
        e_value: E of the harm test.
        control: E of the A/A check.
    """

    e_value: float
    control: float = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known about one metric in the current stage.

    Attributes:
        name: Name of the metric.
        candidate: Cumulative counts of the stage.
        baseline: Cumulative counts of the stage, or of the last comparison when ``compared`` is False.
        e_value: E of the metric's harm test.
        compared: Whether stable served beside the candidate.
        own: Whether the stage is about these users; what others show can fail the candidate, not hold it.
        min_requests: How many requests the candidate must have had, if they are the stage's own.
        clustering: φ, by which the evidence is tempered.
        tests: How many harm tests E is the mean of.
        safety: What else has to be shown before the stage passes, if anything.
        control: E of the A/A check, which compares stable with itself; 1 where there are no control slices.
        unit: What is counted.
        problem: Why the evidence could not be read this time; what was read before still counts.
        problem_verdict: What that makes of the metric.
        is_paired: Whether the baseline's bad events are those of the candidate's that stable lost, not events of its own.
        wins: The candidate's events that are better than stable's, where that is counted.
        lost: Events that did not count, in words; empty if all did.
        look_for: What may be the cause where stable differs from itself.
        looks: The evidence after each scrape of the interval but the last.
        before: E at the interval's beginning, where scrapes within it are not told apart.
    """

    name: str
    candidate: Counts
    baseline: Counts
    e_value: float
    compared: bool
    own: bool
    min_requests: int
    clustering: float = 1.0
    tests: int = 1
    safety: Safety | None = None
    control: float = 1.0
    unit: str = "requests"
    problem: str = ""
    problem_verdict: Verdict = Verdict.ERROR
    is_paired: bool = False
    wins: int | None = None
    lost: str = ""
    look_for: str = (
        "look for a broken pod of stable, or failures that come in bunches (spec.analysis.clustering)"
    )
    looks: tuple[Look, ...] = ()
    before: float | None = None

    def at(self, number: int) -> Finding:
        """As it was after so many more scrapes than the first."""
        if number < len(self.looks):
            return replace(self, e_value=self.looks[number].e_value, control=self.looks[number].control)
        return self if self.before is None else replace(self, e_value=self.before)


def rate(counts: Counts) -> str:
    """Counts as people read them, such as ``12/60 (20 %)``."""
    share = f" ({100 * counts.bad / counts.total:.3g} %)" if counts.total else ""
    return f"{counts.bad}/{counts.total}{share}"


def judge(
    findings: list[Finding], alpha: float, watched: int, elsewhere: Sequence[float] = ()
) -> list[MetricStatus]:
    """One verdict for each finding, under one budget for them all.

    E-values are averaged with equal weights over everything that the rollout will ever watch, fixed by its frozen
    metrics and stages; what is not watched yet stands at 1. The mean reaches 1/α with probability at most α for a
    version that is no worse, however the metrics depend on each other. Of each only what is beyond noise is added: what the
    A/A check shows between parts of stable is taken off.

    Every scrape is a look at the evidence, and what suffices at one of them is enough, whatever came after it.

    Args:
        findings: What is watched in this stage.
        alpha: α, the chance to take back a good version.
        watched: How many findings there are when everything is watched.
        elsewhere: E-values of what was watched before this stage and is not any more: they stay as they are.
    """
    threshold = watched / alpha
    failed = [False] * len(findings)
    for number in range(max(len(finding.looks) for finding in findings) + 1):
        is_last = all(number >= len(finding.looks) for finding in findings)
        seen = findings if is_last else [finding.at(number) for finding in findings]
        failed = _failed(seen, alpha, watched, elsewhere)
        if any(failed):
            findings = [s if f else finding for s, f, finding in zip(seen, failed, findings, strict=True)]
            break
    return [
        _noisy(finding, threshold)
        if is_noisy(finding.control, alpha) and not has_failed
        else _status(finding, failed=has_failed, threshold=threshold)
        for finding, has_failed in zip(findings, failed, strict=True)
    ]


def _failed(findings: list[Finding], alpha: float, watched: int, elsewhere: Sequence[float]) -> list[bool]:
    """Which of them show harm together; none if they do not."""
    counted = [beyond_noise(finding.e_value, finding.control) for finding in findings]
    combined = (sum(counted) + sum(elsewhere) + watched - len(findings) - len(elsewhere)) / watched
    threshold, most = watched / alpha, max(counted)
    # Others may have carried the mean over the bar together; the worst then stands for them.
    return [combined >= 1 / alpha and e_value >= min(most, threshold) for e_value in counted]


def hold_for_split(metric: MetricStatus, wanted: str) -> MetricStatus:
    """The verdict when the router does not split as it was told; what failed stands.

    The harm test takes the arms' requests as they come, so it is right under any split.

    Args:
        metric: The verdict on the evidence.
        wanted: The candidate's programmed share, such as ``10%``.
    """
    if metric.verdict is Verdict.FAIL:
        return metric
    candidate, total = metric.candidate.total, metric.candidate.total + metric.baseline.total
    message = (
        f"the router does not split as it was told: the candidate had {candidate} of {total} requests "
        f"({100 * candidate / max(total, 1):.3g} %) instead of {wanted}; or very few users send very much"
    )
    return metric.model_copy(
        update={"verdict": Verdict.ERROR, "reason": Reason.SPLIT_MISMATCH, "message": message}
    )


def _numbers(finding: Finding, threshold: float) -> str:
    beside = "baseline" if finding.compared else "the last comparison's baseline"
    won = "" if finding.wins is None else f" and {finding.wins} won"
    return (
        f"candidate {rate(finding.candidate)}{won}, {beside} {rate(finding.baseline)}, "
        f"e-value {finding.e_value:.3g} of {threshold:g}"
    )


def _detectable(finding: Finding, threshold: float) -> float | None:
    """The smallest ratio that this much traffic could have shown by one of the tests alone."""
    candidate, baseline = finding.candidate, finding.baseline
    threshold, clustering = threshold * finding.tests, finding.clustering
    if finding.is_paired:
        return smallest_odds(candidate.bad + baseline.bad, threshold, clustering)
    if finding.compared:
        return min_detectable_ratio(
            candidate.total, baseline.total, baseline.bad, threshold=threshold, clustering=clustering
        )
    tolerated = tolerated_rate(baseline.bad, baseline.total, clustering)
    return min_detectable_ratio_against_rate(
        candidate.total, tolerated, threshold=threshold, clustering=clustering
    )


def _worth(finding: Finding, detectable: float | None) -> str:
    """What it means that no harm was found."""
    if detectable is None:
        return f"so few {finding.unit} could not have shown any harm"
    to = "" if finding.compared else " of what is tolerated"
    return f"an odds ratio of {detectable:.3g}{to} would have shown"


def _noisy(finding: Finding, threshold: float) -> MetricStatus:
    message = f"stable differs from itself, e-value {finding.control:.3g}: {_numbers(finding, threshold)}; {finding.look_for}"
    return _metric(finding, Verdict.ERROR, message, threshold, Reason.NOISY_EVIDENCE)


def _status(finding: Finding, *, failed: bool, threshold: float) -> MetricStatus:
    numbers = _numbers(finding, threshold)
    if failed:
        verdict, message = Verdict.FAIL, f"worse than stable: {numbers}"
    elif finding.problem:
        verdict, message = finding.problem_verdict, finding.problem
    elif finding.own and finding.candidate.total < finding.min_requests:
        verdict = Verdict.INSUFFICIENT
        lost = f" (lately without a verdict: {finding.lost})" if finding.lost else ""
        message = (
            f"{finding.candidate.total} of {finding.min_requests} {finding.unit} counted{lost}: {numbers}"
        )
    elif finding.own and finding.baseline.total == 0:
        verdict = Verdict.INSUFFICIENT
        message = f"stable had no {finding.unit} to compare with: {numbers}"
    elif finding.e_value >= SUSPICION:
        verdict = Verdict.INSUFFICIENT
        message = (
            f"harm is suspected, more {finding.unit} will tell (below an e-value of {SUSPICION:g}): {numbers}"
        )
    elif finding.own and finding.safety and finding.safety.e_value < SAFE:
        verdict, message = Verdict.INSUFFICIENT, f"not {_shown(finding.safety)} yet: {numbers}"
    elif finding.own and finding.safety:
        verdict, message = Verdict.PASS, f"no harm found, and {_shown(finding.safety)}: {numbers}"
    else:
        verdict, message = Verdict.PASS, f"no harm found: {numbers}"
    return _metric(finding, verdict, message, threshold)


def _shown(safety: Safety) -> str:
    words = f"shown to be less than {safety.max_ratio:g} times as bad as stable"
    return f"{words} (e-value {safety.e_value:.3g} of {SAFE:g})"


def _metric(
    finding: Finding, verdict: Verdict, message: str, threshold: float, reason: Reason | None = None
) -> MetricStatus:
    detectable = _detectable(finding, threshold)
    if verdict is not Verdict.FAIL and not finding.problem:
        message += f"; {_worth(finding, detectable)}"
    return MetricStatus(
        name=finding.name,
        verdict=verdict,
        reason=reason,
        candidate=finding.candidate,
        baseline=finding.baseline,
        wins=finding.wins,
        evidence=_rounded(finding.e_value),
        threshold=threshold,
        min_detectable_ratio=detectable and _rounded(detectable, 3),
        safety=finding.safety and _rounded(finding.safety.e_value),
        message=message,
    )


def _rounded(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")


def worst(metrics: Sequence[MetricStatus | GuardrailStatus]) -> Verdict | None:
    """The verdict that decides: Fail before Error before Insufficient before Pass."""
    return min((metric.verdict for metric in metrics), key=_SEVERITY.index, default=None)
