"""Many looks within an interval: thousands of good versions, the harm test alone, by the vectorised form of the bench."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controller.core.mixture import start_weight, unstarted_weight
from controller.core.statistics import ODDS_RATIOS
from tests.bench.decision_statistics import log_likelihoods, tempered

RUNS, INTERVALS, SCRAPES = 2000, 60, 5
ALPHA = 0.01
BAND = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)


@pytest.mark.parametrize(
    ("weight", "bunch", "clustering"), [(0.5, 1, 1.0), (0.1, 1, 1.0), (0.01, 1, 1.0), (0.1, 10, 10.0)]
)
def test_good_versions_are_taken_back_no_more_often_than_stated_however_often_is_looked(
    weight: float, bunch: int, clustering: float
) -> None:
    """Bunches fail as a whole; the common rate doubles and halves within twenty intervals."""
    random = np.random.default_rng(11)
    total = 500 // SCRAPES // bunch
    evidence, taken = np.full((RUNS, len(ODDS_RATIOS)), -np.inf), np.zeros(RUNS, dtype=bool)
    for interval in range(1, INTERVALS + 1):
        rate = 0.02 * 2 ** math.sin(interval / 3)
        said = np.zeros_like(evidence)
        for _ in range(SCRAPES):
            candidate = random.binomial(total, weight, RUNS)
            failed, beside = random.binomial(candidate, rate), random.binomial(total - candidate, rate)
            *worse, same = log_likelihoods(
                (bunch * failed, bunch * candidate),
                (bunch * beside, bunch * (total - candidate)),
                (*ODDS_RATIOS, 1.0),
            ).T
            said += np.array(worse).T - same[:, None]
            grown = np.logaddexp(evidence, math.log(start_weight(interval))) + tempered(said, clustering)
            e_values = np.exp(np.minimum(grown, 600)).mean(axis=1) + unstarted_weight(interval)
            taken |= e_values >= 1 / ALPHA
        evidence = grown
    assert 0 < taken.mean() <= BAND
