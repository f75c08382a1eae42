from controller.runtime.backoff import Backoff


def test_the_bound_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base=0.5, cap=3.0)
    assert [backoff.bound(failures) for failures in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_delay_is_a_random_share_of_the_bound() -> None:
    assert Backoff(base=2.0, cap=60.0, uniform=lambda: 0.25).delay(3) == 2.0


def test_any_number_of_failures_has_a_bound() -> None:
    assert Backoff(base=1.0, cap=30.0).bound(10**9) == 30.0


def test_a_delay_before_any_failure_is_that_of_the_first() -> None:
    assert Backoff(base=1.0, cap=30.0).bound(0) == 1.0
