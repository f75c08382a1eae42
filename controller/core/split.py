"""The split check of one evaluation: does the candidate get the share that the router was told to give it?"""

from __future__ import annotations

from controller.api.delivery import ROUTER_METRICS, WHOLE_PPM
from controller.api.quantities import format_percent
from controller.api.status import Evidence, MetricStatus, RolloutStatus, SplitEvidence
from controller.core.controls import sizes_of
from controller.core.dispersion import share_clustering
from controller.core.snapshot import Snapshot
from controller.core.soundness import SPLIT_CLUSTERING, SplitTest, is_split_wrong, split_log_e_values
from controller.core.stages import Comparison, comparisons, sampled_ppm, watch_name
from controller.core.verdict import hold_for_split


def check_splits(
    snapshot: Snapshot, status: RolloutStatus, before: Evidence, analysis: list[MetricStatus]
) -> tuple[list[SplitEvidence], list[MetricStatus]]:
    """The tests after one more interval, and the verdicts in which a wrong split is Error.

    Args:
        snapshot: The rollout.
        status: Before this evaluation; what the verdicts count beyond it is the interval.
        before: The state of all tests before it.
        analysis: The verdicts on the evidence.

    Raises:
        UnknownStateError: If a stored test is not one of this version's.
    """
    known = {split.audience: SplitTest.decode(split.test) for split in before.splits}
    counted = {metric.name: metric for metric in status.analysis}
    found = {metric.name: metric for metric in analysis}
    states = {metric.name: metric for metric in before.metrics}
    for comparison in comparisons(status, snapshot.stages):
        names = [watch_name(metric.name, comparison) for metric in snapshot.analysis.metrics]
        requests = [watch_name(metric, comparison) for metric in ROUTER_METRICS]
        measure = next((name for name in names if name in requests), None)
        if measure is None or comparison.baseline is None or comparison.weight_ppm == WHOLE_PPM:
            continue
        prior = max(snapshot.analysis.clustering, SPLIT_CLUSTERING)
        clustering = max(prior, share_clustering(sizes_of(states.get(measure)), prior))
        test = known.get(comparison.candidate.audience, SplitTest())
        share = _counted_share(status, comparison)
        test = _after(test, counted.get(measure), found[measure], share, clustering)
        known[comparison.candidate.audience] = test
        if is_split_wrong(test):
            wanted = format_percent(comparison.weight_ppm)
            found |= {name: hold_for_split(found[name], wanted) for name in names}
    splits = [SplitEvidence(audience=audience, test=test.encode()) for audience, test in known.items()]
    return splits, list(found.values())


def _counted_share(status: RolloutStatus, comparison: Comparison) -> float:
    """The candidate's share of the requests that are counted: those that others answer too are counted apart."""
    apart = 0 if comparison.candidate.audience else sampled_ppm(status)
    return comparison.weight_ppm / (WHOLE_PPM - apart)


def _after(
    test: SplitTest, before: MetricStatus | None, now: MetricStatus, share: float, clustering: float
) -> SplitTest:
    candidate = now.candidate.total - (before.candidate.total if before else 0)
    baseline = now.baseline.total - (before.baseline.total if before else 0)
    if candidate + baseline <= 0:
        return test
    return test.after(split_log_e_values(candidate, baseline, share), clustering)
