"""How much more than independent requests the counts of equal slices of stable scatter.

Cohorts are drawn by conversation and counters count requests. Where requests of one conversation fail together, counts
scatter φ times as much as independent ones would, and a likelihood that takes them for independent is too sure. The test
tempers it (``mixture.tempered``). φ cannot be seen in the candidate's own counts, since harm scatters them too; control slices, parts
of stable's users drawn like the candidate's, show it.

Two estimates, of which the larger counts. The slices' cumulative counts see whatever makes one slice differ from
another, however long it takes, but are only eight numbers. The scatter of all parts of stable within intervals is soon known
precisely, and does not see that a conversation which goes on for minutes fails in several intervals. While few bunches were seen,
φ may be several times as large as it looks: then a single interval proves less (docs/adr/0038-clustering-that-is-not-yet-known.md).

How they are called, at each interval t and for each pair of counts that is tested:

    φ_t = clustering(slices, prior, scatter)   slices: each slice's events of all counted intervals up to t − 1
    test = test.after(log_e_values, φ_t, scatter.freedom(prior))
    scatter = scatter.after(parts of stable in interval t)

φ_t must not know interval t: an e-value's power that is fixed beforehand keeps its expectation at most 1, one that was
chosen after a look does not. It stays an approximation: for clustered counts no power makes the expectation exactly 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.core.counts import Events
from controller.core.mixture import FREEDOM

PRIOR_SLICES = 8
"""The configured clustering counts as much as this many slices."""


PRIOR_BUNCHES = 8
"""The configured clustering counts as much as so many bunches of that size, within intervals."""

FEW_BUNCHES = 12
"""With so many bunches φ is known half as well as it ever will be."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """How much the bad events of stable's parts, the slices and the rest, scattered within intervals.

    Attributes:
        squares: Squared deviations from what each part's size would have it, summed over parts and intervals.
        expected: What these would be for independent events.
    """

    squares: float = 0.0
    expected: float = 0.0

    def after(self, parts: Sequence[Events]) -> Scatter:
        """The state after one more interval, by each part's counts in it."""
        bad, total = sum(each.bad for each in parts), sum(each.total for each in parts)
        if bad in (0, total):
            return self
        rate = bad / total
        return Scatter(
            self.squares + sum((each.bad - each.total * rate) ** 2 for each in parts),
            self.expected + rate * (1 - rate) * (total - sum(each.total**2 for each in parts) / total),
        )

    def freedom(self, prior: float) -> float:
        """In how many degrees of freedom φ is known: with n bunches, the prior's 8 included, 5n/(n + 12)."""
        bunches = (PRIOR_BUNCHES * prior + self.expected) / self.clustering(prior)
        return FREEDOM * bunches / (bunches + FEW_BUNCHES)

    def clustering(self, prior: float) -> float:
        """φ = (8·φ0·φ0 + squares) / (8·φ0 + expected): the mean size of a bunch, by its size."""
        return (PRIOR_BUNCHES * prior**2 + self.squares) / (PRIOR_BUNCHES * prior + self.expected)


def clustering(slices: Sequence[Events], prior: float, scatter: Scatter | None = None) -> float:
    """φ, the larger of both estimates: max(1, (8·φ0 + Σ_j χ²_j) / (8 + J)) and ``Scatter.clustering``.

    Where the slices can say nothing, the prior stands alone: without slices, or with fewer than two bad or two good
    events in all of them. (A single event scatters by the same amount, however clustered events are.)

    Args:
        slices: Cumulative counts of each control slice. They may differ in size.
        prior: φ0, ``analysis.clustering``.
        scatter: What they did within intervals; None if that was not followed.
    """
    bad, total = sum(each.bad for each in slices), sum(each.total for each in slices)
    if bad < 2 or total - bad < 2:
        return max(1.0, prior)
    rate = bad / total
    squares = sum(
        (each.bad - each.total * rate) ** 2 / (each.total * rate * (1 - rate))
        for each in slices
        if each.total
    )
    within = scatter.clustering(prior) if scatter else 1.0
    return max(_estimate(squares, len(slices), prior), within)


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
