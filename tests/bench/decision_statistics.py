"""The product's tests for many rollouts at once; ``tests/unit/test_bench_decisions.py`` holds them against ``controller.core``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaln

from controller.core.dispersion import FEW_BUNCHES, PRIOR_BUNCHES, PRIOR_SLICES
from controller.core.mixture import FREEDOM, start_weight, unstarted_weight
from controller.core.soundness import CONTROL_RATIOS, most_log_evidence
from controller.core.statistics import ODDS_RATIOS
from tests.bench.decision_traffic import Bools, Floats, Ints

Pair = tuple[Ints, Ints]
"""Bad and total of each rollout."""


def log_likelihoods(candidate: Pair, baseline: Pair, odds_ratios: tuple[float, ...]) -> Floats:
    """``controller.core.statistics.log_likelihoods`` by rollout and odds ratio, to five digits.

    Tables of like size are added up together, a few at a time, which stay in the processor's cache.
    """
    (s_c, n_c), (s_b, n_b) = candidate, baseline
    bad = s_c + s_b
    low, high = np.maximum(0, bad - n_b), np.minimum(bad, n_c)
    result, logs = np.zeros((len(s_c), len(odds_ratios))), [math.log(ratio) for ratio in odds_ratios]
    by_size = np.argsort(high - low, kind="stable")
    said = by_size[(low < high)[by_size]]
    for rows in (said[at : at + _AT_ONCE] for at in range(0, len(said), _AT_ONCE)):
        result[rows] = _log_likelihoods(
            tuple(each[rows, None] for each in (s_c, n_c, n_b, bad, low, high)), logs
        )
    return result


_AT_ONCE = 128


def tempered(log_e_values: Floats, clustering: Floats | float, freedom: Floats | float = FREEDOM) -> Floats:
    """``controller.core.mixture.tempered`` by rollout and alternative; φ by rollout."""
    phi = np.reshape(clustering, (-1, 1))
    curved = np.maximum((phi - 1) / (np.reshape(freedom, (-1, 1)) * phi), 1e-12)
    scaled = log_e_values / phi
    result: Floats = np.where(scaled > 0, np.log1p(curved * np.maximum(scaled, 0)) / curved, scaled)
    return result


def _log_likelihoods(columns: tuple[Ints, ...], logs: list[float]) -> Floats:
    s_c, n_c, n_b, bad, low, high = columns
    steps = np.arange(int((high - low).max()), dtype=float)
    k = low + steps
    with np.errstate(divide="ignore", invalid="ignore"):
        grows = (n_c - k) * (bad - k) / ((k + 1) * (n_b - bad + k + 1))
        grows = np.where(k < high, np.log(grows.astype(np.float32)), -np.inf)
    ways = np.zeros((len(bad), len(steps) + 1))
    np.cumsum(grows, axis=1, out=ways[:, 1:])
    beyond = np.arange(ways.shape[1]) + (low - s_c)
    result = np.empty((len(bad), len(logs)))
    for column, log_ratio in enumerate(logs):
        terms = ways + beyond * log_ratio
        largest = terms.max(axis=1, keepdims=True)
        sums = np.exp((terms - largest).astype(np.float32)).sum(axis=1)
        result[:, column] = -(largest[:, 0] + np.log(sums))
    return result


def log_e_values_against_rate(candidate: Pair, rate: Floats) -> Floats:
    """``controller.core.statistics.log_e_value_against_reference`` by rollout and odds ratio."""
    bad, total = (each[:, None] for each in candidate)
    ratios, reference = np.array(ODDS_RATIOS), rate[:, None]
    worse = ratios * reference / (1 - reference + ratios * reference)
    result: Floats = bad * np.log(worse / reference) + (total - bad) * np.log((1 - worse) / (1 - reference))
    return result


@dataclass
class Harm:
    """``controller.core.mixture.StartMixture`` of many rollouts: the harm test, and the A/A check."""

    runs: int
    alternatives: int = len(ODDS_RATIOS)
    intervals: int = 0
    log_evidence: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.log_evidence = np.full((self.runs, self.alternatives), -np.inf)

    def add(
        self, log_e_values: Floats, clustering: Floats | float, freedom: Floats | float = FREEDOM
    ) -> None:
        """One more interval."""
        self.intervals += 1
        start = math.log(start_weight(self.intervals))
        self.log_evidence = np.logaddexp(self.log_evidence, start) + tempered(
            log_e_values, clustering, freedom
        )

    def forget(self, enough: float) -> None:
        """As ``controller.core.soundness.ControlTest.forgetting``."""
        self.log_evidence = np.minimum(self.log_evidence, most_log_evidence(enough))

    @property
    def e_values(self) -> Floats:
        """E by rollout."""
        largest = self.log_evidence.max(axis=1, keepdims=True)
        largest = np.where(np.isfinite(largest), largest, 0.0)
        mean = np.exp(self.log_evidence - largest).mean(axis=1) * np.exp(np.minimum(largest[:, 0], 600.0))
        result: Floats = mean + unstarted_weight(self.intervals)
        return result


@dataclass
class Safe:
    """``controller.core.safety.SafetyTest`` of many rollouts."""

    runs: int
    log_evidence: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.log_evidence = np.zeros((self.runs, 3))

    def add(
        self,
        candidate: Pair,
        baseline: Pair,
        max_ratio: float,
        clustering: Floats | float,
        freedom: Floats | float = FREEDOM,
    ) -> None:
        """One more interval."""
        values = log_likelihoods(candidate, baseline, (0.5, 1.0, 1.0, max_ratio))
        self.log_evidence += tempered(values[:, :3] - values[:, 3:], clustering, freedom)

    @property
    def e_values(self) -> Floats:
        """E' by rollout."""
        result: Floats = np.exp(np.minimum(self.log_evidence, 600.0)).mean(axis=1)
        return result


def clusterings(slices: Pair, prior: float, within: Floats) -> Floats:
    """``controller.core.dispersion.clustering`` by rollout; ``within`` is that of ``Scatters``."""
    bad, total = slices
    all_bad, all_total = bad.sum(axis=1), total.sum(axis=1)
    says = (all_bad >= 2) & (all_total - all_bad >= 2)
    rate = np.where(says, all_bad / np.maximum(all_total, 1), 0.5)[:, None]
    expected = total * rate
    scatter = (bad - expected) ** 2 / np.where(total > 0, expected * (1 - rate), 1.0)
    found = (PRIOR_SLICES * prior + scatter.sum(axis=1)) / (PRIOR_SLICES + bad.shape[1])
    result: Floats = np.where(says, np.maximum(np.maximum(1.0, found), within), prior)
    return result


def control_log_e_values(slices: Pair, stable: Pair) -> Floats:
    """``controller.core.soundness.control_log_e_values`` by rollout, and slice and odds ratio."""
    bad, total = slices
    rest = tuple((all_of[:, None] - each).ravel() for all_of, each in zip(stable, slices, strict=True))
    values = log_likelihoods((bad.ravel(), total.ravel()), (rest[0], rest[1]), (*CONTROL_RATIOS, 1.0))
    return (values[:, :-1] - values[:, -1:]).reshape(len(bad), -1)


@dataclass
class Scatters:
    """``controller.core.dispersion.Scatter`` of many rollouts."""

    runs: int
    squares: Floats = field(init=False)
    expected: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.squares, self.expected = np.zeros(self.runs), np.zeros(self.runs)

    def add(self, parts: Pair) -> None:
        """One more interval."""
        bad, total = parts
        all_bad, all_total = bad.sum(axis=1), total.sum(axis=1)
        says = (all_bad > 0) & (all_bad < all_total)
        rate = all_bad / np.maximum(all_total, 1)
        squares = ((bad - total * rate[:, None]) ** 2).sum(axis=1)
        expected = rate * (1 - rate) * (all_total - (total**2).sum(axis=1) / np.maximum(all_total, 1))
        self.squares += np.where(says, squares, 0.0)
        self.expected += np.where(says, expected, 0.0)

    def freedoms(self, prior: float) -> Floats:
        """Degrees of freedom by rollout."""
        bunches = (PRIOR_BUNCHES * prior + self.expected) / self.clusterings(prior)
        result: Floats = FREEDOM * bunches / (bunches + FEW_BUNCHES)
        return result

    def clusterings(self, prior: float) -> Floats:
        """φ within intervals by rollout."""
        result: Floats = (PRIOR_BUNCHES * prior**2 + self.squares) / (PRIOR_BUNCHES * prior + self.expected)
        return result


def is_significant(candidate: Pair, baseline: Pair, level: float) -> Bools:
    """Fisher's exact test by rollout, one-sided: so many bad events or more of the candidate's would be rare."""
    (s_c, n_c), (s_b, n_b) = candidate, baseline
    bad, total = s_c + s_b, n_c + n_b
    result = np.zeros(len(s_c), dtype=bool)
    by_size = np.argsort(s_c, kind="stable")
    said = by_size[((s_c * total > bad * n_c) & (bad > 0))[by_size]]
    for rows in (said[at : at + _AT_ONCE] for at in range(0, len(said), _AT_ONCE)):
        result[rows] = _log_tail(*(each[rows] for each in (s_c, n_c, n_b, bad))) < math.log(level)
    return result


def _log_tail(x: Ints, n_c: Ints, n_b: Ints, bad: Ints) -> Floats:
    """Logarithm of the probability of x or more, for x above the mean."""
    log_exactly = _log_choose(n_c, x) + _log_choose(n_b, bad - x) - _log_choose(n_c + n_b, bad)
    # From one term of the upper tail to the next; above the mean they shrink ever faster.
    k = x[:, None] + np.arange(20.0 + int(_DEVIATIONS * math.sqrt(x.max())))
    down = ((n_c[:, None] - k) * (bad[:, None] - k)) / ((k + 1) * (n_b[:, None] - bad[:, None] + k + 1))
    result: Floats = log_exactly + np.log1p(np.cumprod(np.maximum(down, 0), axis=1).sum(axis=1))
    return result


def _log_choose(n: Ints, k: Ints) -> Floats:
    ways: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return ways


_DEVIATIONS = 7
"""So many standard deviations further up nothing adds to the tail."""
