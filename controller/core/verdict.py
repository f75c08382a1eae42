"""From counts to one of four verdicts, with the sentence that explains it."""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.reasons import Verdict
from controller.api.status import Counts, MetricStatus

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
        min_requests: How many requests the candidate must have had.
    """

    name: str
    candidate: Counts
    baseline: Counts
    e_value: float
    compared: bool
    min_requests: int


def rate(counts: Counts) -> str:
    """Counts as people read them, such as ``12/60 (20 %)``."""
    share = f" ({100 * counts.bad / counts.total:.3g} %)" if counts.total else ""
    return f"{counts.bad}/{counts.total}{share}"


def judge(findings: list[Finding], alpha: float) -> list[MetricStatus]:
    """One verdict a metric, under one budget for them all.

    The metrics' e-values are averaged with equal weights fixed by the frozen list of metrics; their mean reaches
    1/α with probability at most α for a version that is no worse, however the metrics depend on each other.
    """
    combined = sum(finding.e_value for finding in findings) / len(findings)
    worst = max(findings, key=lambda finding: finding.e_value)
    threshold = len(findings) / alpha
    return [
        _status(finding, failed=combined >= 1 / alpha and finding is worst, threshold=threshold)
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
    elif finding.candidate.total < finding.min_requests:
        verdict = Verdict.INSUFFICIENT
        message = f"{finding.candidate.total} of {finding.min_requests} requests counted: {numbers}"
    elif finding.compared and finding.baseline.total == 0:
        verdict, message = Verdict.INSUFFICIENT, f"stable had no requests to compare with: {numbers}"
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
