"""What holds for the numbers of any traffic."""

from __future__ import annotations

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from controller.api.status import Counts
from controller.core.detectable import expected_evidence, min_detectable_ratio
from controller.core.dispersion import clustering, share_clustering
from controller.core.safety import SafetyTest, safety_log_e_values
from controller.core.soundness import SplitTest, share_bounds, split_log_e_values
from controller.core.statistics import ODDS_RATIOS, HarmTest, Interval, harm_log_e_values

counts = st.integers(0, 3_000)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    candidate, baseline = draw(counts), draw(counts)
    return Interval(draw(st.integers(0, candidate)), candidate, draw(st.integers(0, baseline)), baseline)


@given(interval=intervals(), ratio=st.floats(1.1, 50))
def test_one_more_bad_request_of_the_candidate_instead_of_stables_is_never_less_harm_nor_more_safety(
    interval: Interval, ratio: float
) -> None:
    assume(interval.candidate_bad < interval.candidate_total and interval.baseline_bad > 0)
    worse = Interval(
        interval.candidate_bad + 1,
        interval.candidate_total,
        interval.baseline_bad - 1,
        interval.baseline_total,
    )
    pairs = zip(harm_log_e_values(interval), harm_log_e_values(worse), strict=True)
    assert all(after >= before - 1e-9 for before, after in pairs)
    safe = zip(safety_log_e_values(interval, ratio), safety_log_e_values(worse, ratio), strict=True)
    assert all(after <= before + 1e-9 for before, after in safe)


@given(interval=intervals(), tolerated=st.floats(0.5, 4))
def test_e_values_are_finite_and_tolerating_more_never_raises_the_evidence_of_the_same_ratio(
    interval: Interval, tolerated: float
) -> None:
    assert all(math.isfinite(each) for each in harm_log_e_values(interval, tolerated))
    assert len(harm_log_e_values(interval, tolerated)) == len(ODDS_RATIOS)


@given(
    values=st.lists(st.tuples(*[st.floats(-50, 50)] * len(ODDS_RATIOS)), max_size=20),
    phi=st.floats(1, 100),
)
def test_states_survive_being_written_down_at_every_interval(
    values: list[tuple[float, ...]], phi: float
) -> None:
    test, written, safety = HarmTest(), HarmTest(), SafetyTest()
    for each in values:
        test = test.after(each, phi)
        written = HarmTest.decode(written.after(each, phi).encode())
        safety = SafetyTest.decode(safety.after(each[:3], phi).encode())
    assert math.isclose(test.e_value, written.e_value, rel_tol=1e-5)
    assert safety.e_value > 0


@given(
    candidate=st.integers(1, 10**7),
    baseline=st.integers(1, 10**7),
    more=st.integers(1, 50),
    rate=st.floats(1e-4, 0.9),
    phi=st.floats(1, 50),
)
def test_more_traffic_of_either_arm_never_makes_the_detectable_ratio_larger(
    candidate: int, baseline: int, more: int, rate: float, phi: float
) -> None:
    odds = rate / (1 - rate)
    few = expected_evidence(candidate, baseline, odds, 3.0)
    slack = 1e-9 * (candidate + baseline)
    assert expected_evidence(candidate * more, baseline, odds, 3.0) >= few - slack * more
    assert expected_evidence(candidate, baseline * more, odds, 3.0) >= few - slack * more
    bad = round(baseline * rate)
    before = min_detectable_ratio(candidate, baseline, bad, threshold=200, clustering=phi)
    after = min_detectable_ratio(candidate * more, baseline, bad, threshold=200, clustering=phi)
    if before is not None:
        assert after is not None
        assert 1 < after <= before * 1.001


@given(slices=st.lists(st.tuples(counts, counts), max_size=12), prior=st.floats(1, 100))
def test_the_clustering_is_at_least_one_and_finite(slices: list[tuple[int, int]], prior: float) -> None:
    found = clustering([Counts(bad=min(pair), total=max(pair)) for pair in slices], prior)
    assert 1 <= found < math.inf
    assert 1 <= share_clustering([total for _, total in slices], prior) < math.inf


@given(candidate=counts, baseline=counts, share=st.floats(1e-4, 1 - 1e-4))
def test_a_share_as_programmed_is_within_its_bounds_and_evidence_is_finite(
    candidate: int, baseline: int, share: float
) -> None:
    low, high = share_bounds(share)
    assert 0 < low < share < high < 1
    values = split_log_e_values(candidate, baseline, share)
    assert all(math.isfinite(each) for each in values)
    assert math.isfinite(SplitTest().after(values, 1.0).e_value)
