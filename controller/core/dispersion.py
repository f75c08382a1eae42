"""How much more than independent requests the counts of equal slices of stable scatter.

Cohorts are drawn by conversation and counters count requests. Where requests of one conversation fail together, counts
scatter φ times as much as independent ones would, and a likelihood that takes them for independent is too sure. The test
tempers it, e^(1/φ). φ cannot be seen in the candidate's own counts, since harm scatters them too; control slices, parts
of stable's users drawn like the candidate's, show it.

How it is called, at each interval t and for each pair of counts that is tested:

    φ_t = clustering(slices, prior)            slices: each slice's events of all counted intervals up to t − 1
    test = test.after(log_e_values, φ_t)

φ_t must not know interval t: an e-value's power that is fixed beforehand keeps its expectation at most 1, one that was
chosen after a look does not. It stays an approximation: for clustered counts no 1/φ makes the expectation exactly 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.api.status import Counts

PRIOR_SLICES = 8
"""The configured clustering counts as much as this many slices."""


def clustering(slices: Sequence[Counts], prior: float) -> float:
    """φ = max(1, (8·φ0 + Σ_j χ²_j) / (8 + J)), with the squared residuals χ²_j of J slices' bad events.

    Where the slices can say nothing, the prior stands alone: without slices, or with fewer than two bad or two good
    events in all of them. (A single event scatters by the same amount, however clustered events are.)

    Args:
        slices: Cumulative counts of each control slice. They may differ in size.
        prior: φ0, ``analysis.clustering``.
    """
    bad, total = sum(each.bad for each in slices), sum(each.total for each in slices)
    if bad < 2 or total - bad < 2:
        return max(1.0, prior)
    rate = bad / total
    scatter = sum(
        (each.bad - each.total * rate) ** 2 / (each.total * rate * (1 - rate))
        for each in slices
        if each.total
    )
    return _estimate(scatter, len(slices), prior)


def share_clustering(totals: Sequence[int], prior: float) -> float:
    """The same of the slices' sizes, for slices that are programmed to equal shares of the requests.

    Long conversations, and users who send much, make a share scatter more than requests drawn one by one would. For the
    split check; with few users it grows in proportion to the requests, so that many requests of few users prove little.

    Args:
        totals: Cumulative requests of each control slice.
        prior: The clustering that counts as much as eight slices.
    """
    expected = sum(totals) / len(totals) if totals else 0.0
    if expected == 0:
        return max(1.0, prior)
    return _estimate(sum((each - expected) ** 2 / expected for each in totals), len(totals), prior)


def _estimate(scatter: float, slices: int, prior: float) -> float:
    return max(1.0, (PRIOR_SLICES * prior + scatter) / (PRIOR_SLICES + slices))
