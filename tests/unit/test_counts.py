from __future__ import annotations

import math

import pytest

from controller.core.counts import Scrapes, Series, Span, UnusableSamplesError, increment, joined

ALWAYS = Span(after=0, until=1000, not_before=0)


def series(*samples: tuple[float, float], name: str = "total", instance: str = "router-0") -> Series:
    return Series({"__name__": name, "job": "envoy", "instance": instance}, samples)


def scrapes(*times: float) -> Scrapes:
    return Scrapes.of([series(*((time, 1.0) for time in times), name="live")])


def test_a_counter_moves_by_its_differences() -> None:
    assert increment(series((10, 5), (20, 7), (30, 12)), ALWAYS, scrapes(10, 20, 30)) == 7


def test_a_reset_counter_moved_by_its_new_value() -> None:
    assert increment(series((10, 5), (20, 9), (30, 2)), ALWAYS, scrapes(10, 20, 30)) == 6


def test_a_counter_that_appears_on_a_process_scraped_before_started_at_0() -> None:
    assert increment(series((20, 4), (30, 6)), ALWAYS, scrapes(10, 20, 30)) == 6


def test_a_counter_of_a_process_that_was_never_scraped_before_tells_only_its_differences() -> None:
    assert increment(series((20, 4), (30, 6)), ALWAYS, scrapes(20, 30)) == 2


def test_another_process_says_nothing_about_when_a_counter_started() -> None:
    assert increment(series((20, 4), (30, 6), instance="router-1"), ALWAYS, scrapes(10, 20, 30)) == 2


def test_what_was_counted_before_is_not_counted_again() -> None:
    assert increment(series((10, 5), (20, 7), (30, 12)), Span(20, 1000, 0), scrapes(10, 20, 30)) == 5


def test_the_end_is_inclusive_and_what_comes_later_is_left_for_the_next_interval() -> None:
    assert increment(series((10, 5), (20, 7), (30, 12)), Span(0, 20, 0), scrapes(10, 20, 30)) == 2


def test_a_movement_that_may_have_begun_under_another_split_is_left_out() -> None:
    assert increment(series((10, 5), (20, 7), (30, 12)), Span(0, 1000, 15), scrapes(10, 20, 30)) == 5


def test_every_movement_is_counted_once_however_it_is_cut_into_intervals() -> None:
    whole = series((10, 5), (20, 7), (30, 1), (40, 12))
    parts = [Span(0, 20, 0), Span(20, 30, 0), Span(30, 35, 0), Span(35, 40, 0)]
    seen = scrapes(10, 20, 30, 40)
    assert sum(increment(whole, part, seen) for part in parts) == increment(whole, ALWAYS, seen) == 14


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_a_newest_sample_that_is_no_number_of_events_is_refused(value: float) -> None:
    with pytest.raises(UnusableSamplesError, match="total of router-0"):
        increment(series((10, 5), (20, value)), ALWAYS, scrapes(10, 20))


def test_an_older_sample_that_is_no_number_is_passed_over() -> None:
    assert increment(series((10, 5), (20, math.nan), (30, 9)), ALWAYS, scrapes(10, 20, 30)) == 4


def test_a_counter_without_samples_did_not_move() -> None:
    assert increment(series(), ALWAYS, scrapes(10, 20)) == 0


def test_the_common_end_is_the_slowest_living_process() -> None:
    live = {"a": (10.0, 20.0), "b": (9.0, 19.0), "gone": (1.0,)}
    both = Scrapes.of(
        series(*((t, 1.0) for t in times), name="live", instance=name) for name, times in live.items()
    )
    assert both.common_end(not_older_than=15) == 19.0
    assert both.common_end(not_older_than=25) is None


def test_the_gap_is_the_median_time_between_scrapes() -> None:
    assert scrapes(10, 15, 20, 40).gap_seconds == 5
    assert scrapes(10).gap_seconds is None


def test_a_process_that_got_another_label_is_another_process() -> None:
    """A change of relabelling must not look like a lifetime of traffic in one interval."""
    zone = {"zone": "a"}
    before, after = series((10, 5000), (20, 5000)), series((30, 5001), (40, 5002))
    relabelled = Series({**after.labels, **zone}, after.samples)
    old, new = series((10, 1), (20, 1), name="live"), series((30, 1), (40, 1), name="live")
    seen = Scrapes.of([old, Series({**new.labels, **zone}, new.samples)])
    assert increment(before, ALWAYS, seen) + increment(relabelled, ALWAYS, seen) == 1


def scraped_by(job: str, *samples: tuple[float, float], name: str = "total", **labels: str) -> Series:
    return Series({"__name__": name, "job": job, "instance": "router-0", **labels}, samples)


def increments(*answer: Series) -> int:
    once = joined(answer, "live")
    seen = Scrapes.of(one for one in once if one.labels["__name__"] == "live")
    return sum(increment(one, ALWAYS, seen) for one in once if one.labels["__name__"] != "live")


def test_a_process_that_two_jobs_scrape_counts_once() -> None:
    live = [scraped_by("a", (10, 1), (20, 1), name="live"), scraped_by("b", (14, 1), (24, 1), name="live")]
    both = [scraped_by("a", (10, 5), (20, 9)), scraped_by("b", (14, 6), (24, 12))]
    assert increments(*live, *both) == 7


def test_a_counter_that_only_one_of_two_scrapers_has_seen_began_at_0() -> None:
    live = [scraped_by("a", (10, 1), (20, 1), name="live"), scraped_by("b", (14, 1), (24, 1), name="live")]
    assert increments(*live, scraped_by("b", (24, 3))) == 3


def test_labels_of_the_counter_itself_are_no_scrapers_labels() -> None:
    live = [scraped_by("a", (10, 1), (20, 1), name="live"), scraped_by("b", (14, 1), (24, 1), name="live")]
    own = [scraped_by("a", (10, 5), (20, 6), endpoint=path) for path in ("/one", "/two")]
    assert increments(*live, *own) == 2


def test_a_slow_scrape_beside_a_quick_one_is_no_reset() -> None:
    """The one at 20 took so long that it saw what the next, of the other scraper, did not see yet."""
    live = [scraped_by("a", (10, 1), (20, 1), name="live"), scraped_by("b", (12, 1), (21, 1), name="live")]
    slow, quick = scraped_by("a", (10, 100), (20, 108), (30, 120)), scraped_by("b", (12, 102), (21, 105))
    assert increments(*live, slow, quick) == 20
    assert increments(*live, slow, scraped_by("b", (12, 102), (21, 3), (22, 5))) == 120 - 5 + 5 + 8


def test_processes_that_share_nothing_but_the_job_stay_apart() -> None:
    live = [series((10, 1), (20, 1), name="live", instance=name) for name in ("router-0", "router-1")]
    both = [series((10, 5), (20, 9), instance=name) for name in ("router-0", "router-1")]
    assert increments(*live, *both) == 8
    assert joined([*live, *both], "live") == (*live, *both)


def test_without_an_instance_nobody_knows_which_process_is_scraped_twice() -> None:
    apart = [Series({"__name__": "live", "job": job}, ((10, 1), (20, 1))) for job in ("a", "b")]
    assert joined(apart, "live") == tuple(apart)


def test_a_scrape_is_known_by_its_millisecond() -> None:
    assert scrapes(10.0004, 20).saw(10)
    assert not scrapes(10.002, 20).saw(10)
