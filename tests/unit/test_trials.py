"""What counts as a trial."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.core.traffic import AudienceSplit, Backend, TrafficTable
from controller.core.trials import WHOLE, Request, Trials, split_name

OLD, NEW = (Backend(name, f"sha256:{name}", "127.0.0.1", 80) for name in ("old", "new"))
TABLE = TrafficTable("shop/agent", ("h",), "x-session-id", OLD, NEW, 10_000, exposure=timedelta(seconds=10))
WATCHED = 50.0
"""So long after the first request the first trial may begin."""


def counts(trials: Trials, now: float) -> dict[str, tuple[int, int]]:
    return {each.revision: (each.bad, each.good) for each in trials.counts(now)}


class Watch:
    """A rollout that is watched for long enough."""

    def __init__(self, table: TrafficTable = TABLE, limit: int = 1000) -> None:
        self.table = table
        self.trials = Trials(limit)
        self.trials.publish(table, 0)
        self.meet(0, 0.0)

    def meet(
        self, conversation: int, now: float, revision: str = "new", *, bad: bool = False, split: str = ""
    ) -> None:
        name = split or split_name(self.table)
        self.trials.take("shop/agent", Request(conversation, name, revision, bad), now)


def test_it_counts_when_its_exposure_is_over_and_not_before() -> None:
    watch = Watch()
    watch.meet(1, WATCHED)
    assert counts(watch.trials, WATCHED + 9.9) == {"old": (0, 0), "new": (0, 0)}
    assert counts(watch.trials, WATCHED + 10) == {"old": (0, 0), "new": (0, 1)}


@pytest.mark.parametrize(("at", "bad"), [(0.0, 1), (9.9, 1), (10.0, 0)])
def test_it_is_bad_if_any_request_within_the_exposure_was(at: float, bad: int) -> None:
    watch = Watch()
    watch.meet(1, WATCHED, bad=at == 0)
    watch.meet(1, WATCHED + at, bad=True)
    watch.meet(1, WATCHED + at)
    assert counts(watch.trials, WATCHED + 10)["new"] == (bad, 1 - bad)


def test_who_was_met_before_is_no_trial_while_remembered() -> None:
    watch = Watch()
    watch.meet(1, WATCHED - 0.1)
    for time in (WATCHED, WATCHED + 599, WATCHED + 1198):
        watch.meet(1, time, bad=True)
    assert counts(watch.trials, WATCHED + 1210)["new"] == (0, 0)
    watch.meet(1, WATCHED + 1198 + 600, bad=True)
    assert counts(watch.trials, WATCHED + 2000)["new"] == (1, 0)


def test_another_split_leaves_out_the_trials_that_are_not_over_and_the_same_split_does_not() -> None:
    watch = Watch()
    watch.meet(1, WATCHED)
    watch.meet(2, WATCHED + 5)
    watch.trials.publish(TABLE, WATCHED + 6)
    watch.trials.publish(replace(TABLE, weight_ppm=100_000), WATCHED + 10)
    assert counts(watch.trials, WATCHED + 99)["new"] == (0, 1)


def test_what_a_router_still_did_under_the_split_before_begins_no_trial_and_ends_one() -> None:
    watch = Watch()
    watch.meet(1, WATCHED, split="before")
    watch.meet(1, WATCHED + 1)
    watch.meet(2, WATCHED)
    watch.meet(2, WATCHED + 1, split="before")
    assert counts(watch.trials, WATCHED + 20)["new"] == (0, 0)


def test_who_is_moved_to_another_version_by_hand_is_no_trial() -> None:
    watch = Watch()
    watch.meet(1, WATCHED)
    watch.meet(1, WATCHED + 1, "old", bad=True)
    assert counts(watch.trials, WATCHED + 20) == {"old": (0, 0), "new": (0, 0)}


def test_without_a_share_for_the_candidate_people_are_met_and_nobody_is_a_trial() -> None:
    alone = replace(TABLE, weight_ppm=0)
    watch = Watch(alone)
    watch.meet(1, WATCHED, "old")
    assert counts(watch.trials, WATCHED + 20) == {"old": (0, 0), "new": (0, 0)}
    watch.table = TABLE
    watch.trials.publish(TABLE, WATCHED + 20)
    watch.meet(1, WATCHED + 21)
    watch.meet(2, WATCHED + 21)
    assert counts(watch.trials, WATCHED + 40)["new"] == (0, 1)


def test_an_unknown_version_or_rollout_counts_for_nobody() -> None:
    watch = Watch()
    watch.meet(1, WATCHED, "older")
    watch.trials.take("shop/other", Request(1, "", "new", bad=True), WATCHED)
    assert counts(watch.trials, WATCHED + 20) == {"old": (0, 0), "new": (0, 0)}


def test_after_an_interruption_counts_stay_and_everybody_has_to_be_met_anew() -> None:
    watch = Watch()
    watch.meet(1, WATCHED)
    assert counts(watch.trials, WATCHED + 10)["new"] == (0, 1)
    watch.trials.interrupt(WATCHED + 10)
    watch.meet(2, WATCHED + 11)
    watch.meet(3, WATCHED + 61)
    assert counts(watch.trials, WATCHED + 99)["new"] == (0, 2)


def test_whose_exposure_was_over_before_an_interruption_is_judged_although_nobody_had_looked() -> None:
    watch = Watch()
    watch.meet(1, WATCHED)
    watch.trials.interrupt(WATCHED + 10)
    assert counts(watch.trials, WATCHED + 10)["new"] == (0, 1)


def test_beyond_the_limit_the_smaller_half_of_the_hashes_is_looked_at() -> None:
    watch = Watch(limit=4)
    small, large = range(1, 5), range(WHOLE - 4, WHOLE)
    for conversation in (*large, *small):
        watch.meet(conversation, WATCHED, bad=conversation in large)
    assert watch.trials.remembered <= 4
    assert counts(watch.trials, WATCHED + 10)["new"] == (0, 3)


def test_the_rollout_with_the_most_is_halved() -> None:
    watch = Watch(limit=5)
    other = replace(TABLE, key="shop/other")
    watch.trials.publish(other, 0)
    watch.trials.take("shop/other", Request(WHOLE - 1, split_name(other), "new", bad=False), 0)
    watch.trials.take("shop/other", Request(WHOLE - 2, split_name(other), "new", bad=False), WATCHED)
    for conversation in range(WHOLE - 9, WHOLE - 3):
        watch.meet(conversation, WATCHED)
    found = {(each.rollout, each.revision): each.good for each in watch.trials.counts(WATCHED + 10)}
    assert found["shop/other", "new"] == 1


def test_another_exposure_begins_anew_and_a_removed_rollout_is_forgotten() -> None:
    watch = Watch()
    watch.meet(1, WATCHED)
    watch.trials.publish(replace(TABLE, exposure=timedelta(seconds=20)), WATCHED + 1)
    assert watch.trials.remembered == 0
    assert counts(watch.trials, WATCHED + 99) == {"old": (0, 0), "new": (0, 0)}
    watch.trials.remove("shop/agent")
    assert counts(watch.trials, WATCHED + 99) == {}


@pytest.mark.parametrize(
    "other",
    [
        replace(TABLE, weight_ppm=20_000),
        replace(TABLE, attempt=1),
        replace(TABLE, candidate=replace(NEW, artifact_id="sha256:newer")),
        replace(TABLE, audiences=(AudienceSplit("x-group", ("a",), 500_000),)),
    ],
)
def test_whoever_is_drawn_otherwise_is_under_another_split(other: TrafficTable) -> None:
    assert split_name(other) != split_name(TABLE)
    assert split_name(replace(TABLE, hosts=("other",))) == split_name(TABLE)
