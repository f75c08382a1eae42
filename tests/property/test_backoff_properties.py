from hypothesis import given
from hypothesis import strategies as st

from controller.runtime.backoff import Backoff

POSITIVE = st.floats(min_value=1e-3, max_value=1e3)


@given(base=POSITIVE, cap=POSITIVE, failures=st.integers(0, 10_000), share=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_within_its_bound_and_bounds_never_fall(
    base: float, cap: float, failures: int, share: float
) -> None:
    backoff = Backoff(base=base, cap=cap, uniform=lambda: share)
    assert 0 <= backoff.delay(failures) <= backoff.bound(failures) <= cap
    assert backoff.bound(failures) <= backoff.bound(failures + 1)
