"""From counts to one of four verdicts, with the sentence that explains it."""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.reasons import Verdict
from controller.api.status import Counts, MetricStatus

SUSPICION = 3.0
"""An e-value from which on a stage does not pass: few requests cannot prove harm, and must not hide it either.

A version that is no worse is at 3 or above with a probability of at most one third, and comes down again.
"""

_SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.INSUFFICIENT, Verdict.PASS)


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
    """

    name: str
    candidate: Counts
    baseline: Counts
    e_value: float
    compared: bool
    own: bool
    min_requests: int


def rate(counts: Counts) -> str:
    """Counts as people read them, such as ``12/60 (20 %)``."""
    share = f" ({100 * counts.bad / counts.total:.3g} %)" if counts.total else ""
    return f"{counts.bad}/{counts.total}{share}"


def judge(findings: list[Finding], alpha: float, watched: int) -> list[MetricStatus]:
    """One verdict for each finding, under one budget for them all.

    E-values are averaged with equal weights over everything that the rollout will ever watch, fixed by its frozen
    metrics and stages; what is not watched yet stands at 1. The mean reaches 1/α with probability at most α for a
    version that is no worse, however the metrics depend on each other.

    Args:
        findings: What is watched in this stage.
        alpha: α, the chance to take back a good version.
        watched: How many findings there are when everything is watched.
    """
    combined = (sum(finding.e_value for finding in findings) + watched - len(findings)) / watched
    worst = max(findings, key=lambda finding: finding.e_value)
    threshold = watched / alpha
    return [
        _status(
            finding,
            # Others may have carried the mean over the bar together; the worst then stands for them.
            failed=combined >= 1 / alpha and (finding is worst or finding.e_value >= threshold),
            threshold=threshold,
        )
        for finding in findings
    ]


def _status(finding: Finding, *, failed: bool, threshold: float) -> MetricStatus:
    beside = "baseline" if finding.compared else "the last comparison's baseline"
    numbers = (
        f"candidate {rate(finding.candidate)}, {beside} {rate(finding.baseline)}, "
        f"e-value {finding.e_value:.3g} of {threshold:g}"
    )
    if failed:
        verdict, message = Verdict.FAIL, f"worse than stable: {numbers}"
    elif finding.own and finding.candidate.total < finding.min_requests:
        verdict = Verdict.INSUFFICIENT
        message = f"{finding.candidate.total} of {finding.min_requests} requests counted: {numbers}"
    elif finding.own and finding.baseline.total == 0:
        verdict, message = Verdict.INSUFFICIENT, f"stable had no requests to compare with: {numbers}"
    elif finding.e_value >= SUSPICION:
        verdict, message = Verdict.INSUFFICIENT, f"harm is suspected, more requests will tell: {numbers}"
    else:
        verdict, message = Verdict.PASS, f"no harm found: {numbers}"
    return MetricStatus(
        name=finding.name,
        verdict=verdict,
        candidate=finding.candidate,
        baseline=finding.baseline,
        evidence=float(f"{finding.e_value:.6g}"),
        threshold=threshold,
        message=message,
    )


def worst(metrics: list[MetricStatus]) -> Verdict | None:
    """The verdict that decides: Fail before Error before Insufficient before Pass."""
    return min((metric.verdict for metric in metrics), key=_SEVERITY.index, default=None)
