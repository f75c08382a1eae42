"""Guardrails with queries of one's own, in virtual time."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from controller.api.guardrails import Guardrail
from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import GuardrailStatus
from controller.core.queries import queries
from controller.core.saving import is_news
from controller.core.snapshot import Answer
from tests.talking import TalkingRollout, talking

STAGES = [{"weight": w, "minDuration": "3m", "minRequests": 10} for w in ("20%", "50%", "100%")]
QUERY = {"name": "refunds", "query": "refunds", "max": 0.5, "samples": "answers"}


def asking(value: float | Answer, *, events: float = 1000, **changes: Any) -> TalkingRollout:
    """A candidate in its first stage, about which nothing was asked yet."""
    world = talking("errors", stages=STAGES, guardrails=[QUERY | changes], scrape=timedelta(seconds=15))
    world.want("http://v2")
    world.answers = {"answers": Answer((events,))}
    gives(world, value)
    return world


def gives(world: TalkingRollout, value: float | Answer, query: str = "refunds") -> None:
    world.answers[query] = value if isinstance(value, Answer) else Answer((value,))


def only(world: TalkingRollout) -> GuardrailStatus:
    (found,) = world.rollout.status.guardrails
    return found


def until_beyond(world: TalkingRollout) -> None:
    """Until the first evaluation that sees the value beyond its limit."""
    while not any(each.message.startswith("beyond") for each in world.rollout.status.guardrails):
        world.live(1)


@pytest.mark.parametrize("limit", [{"max": 0.5}, {"max": None, "min": 0.7}, {"max": 0.5, "min": 0.1}])
def test_a_value_that_stays_beyond_its_limit_takes_the_candidate_back(limit: dict[str, Any]) -> None:
    world = asking(0.6, **limit)
    until_beyond(world)
    assert only(world).verdict is Verdict.INSUFFICIENT
    world.live(45)
    assert only(world).message.startswith("beyond the limit for 45 of 60 s: ")
    world.live(15)
    record = world.rollout.status.last_rollback
    assert record is not None
    assert (record.reason, record.metric) == (Reason.GUARDRAIL_BROKEN, "refunds")
    assert record.message.startswith("beyond the limit for 60 of 60 s: the query gives 0.6, at ")
    assert only(world).value == 0.6


@pytest.mark.parametrize(("action", "state"), [("Hold", State.PROGRESSING), ("Alert", State.STABLE)])
def test_hold_and_alert_take_nothing_back(action: str, state: State) -> None:
    world = asking(0.6, action=action, samples=None)
    world.live(900)
    assert world.rollout.status.last_rollback is None
    assert world.rollout.status.state is state
    told = [plan.status.condition(ConditionType.WITHIN_LIMITS) for plan in world.plans]
    assert Reason.GUARDRAIL_BROKEN in {each.reason for each in told if each}


def test_values_at_their_limits_are_within_them() -> None:
    world = asking(0.5, min=0.5)
    world.live(900)
    assert world.rollout.status.state is State.STABLE
    (said,) = {
        each.message
        for plan in world.plans
        for each in plan.status.guardrails
        if each.verdict is Verdict.PASS
    }
    assert said == "within the limit: the query gives 0.5, at least 0.5 and at most 0.5 is allowed"


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (Answer(), Verdict.INSUFFICIENT, "query gives nothing yet"),
        (Answer((math.nan,)), Verdict.INSUFFICIENT, "query gives no number yet"),
        (
            Answer((9.0, 9.0)),
            Verdict.ERROR,
            "query gives 2 values, and must give one: put it into sum() or max()",
        ),
        (Answer((math.inf,)), Verdict.ERROR, "query gives inf, which is no number to compare"),
        (Answer(problem="Prometheus is away"), Verdict.ERROR, "Prometheus is away"),
    ],
)
def test_what_is_no_value_holds_and_takes_nothing_back(answer: Answer, verdict: Verdict, words: str) -> None:
    world = asking(answer)
    world.live(400)
    assert world.rollout.status.last_rollback is None
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    assert (only(world).verdict, only(world).message, only(world).value) == (verdict, words, None)


def test_an_unanswered_query_is_an_error_too() -> None:
    world = asking(0.1)
    world.answers = {}
    world.live(60)
    assert (only(world).verdict, only(world).message) == (Verdict.ERROR, "query was not asked yet")


def test_a_value_of_ten_events_decides_nothing() -> None:
    world = asking(1.0, events=10.9, minSamples=11)
    world.live(400)
    assert world.rollout.status.last_rollback is None
    assert only(world).verdict is Verdict.INSUFFICIENT
    assert only(world).message.startswith("10 of 11 events counted: ")
    assert only(world).candidate.total == 10
    gives(world, Answer(), "answers")
    world.live(15)
    assert only(world).message == "samples gives nothing yet"


def test_time_in_which_the_query_gave_nothing_does_not_count_and_does_not_forgive() -> None:
    world = asking(0.6)
    until_beyond(world)
    world.live(30)
    gives(world, Answer(problem="Prometheus is away"))
    world.live(300)
    gives(world, 0.6)
    world.live(15)
    assert only(world).message.startswith("beyond the limit for 30 of 60 s")
    world.live(32)
    assert world.rollout.status.last_rollback is not None


def test_time_in_which_routers_could_not_be_read_does_not_count() -> None:
    short: dict[str, Any] = {"for": "29s"}
    world = asking(0.6, **short)
    until_beyond(world)
    world.blind = "Prometheus is away"
    world.live(15)
    world.blind = ""
    world.live(15)
    assert only(world).message.startswith("beyond the limit for 0 of 29 s")


def test_time_without_evaluations_does_not_count() -> None:
    world = asking(0.6)
    until_beyond(world)
    world.now += timedelta(hours=1)
    world.live(16)
    assert only(world).message.startswith(
        ("beyond the limit for 0 of 60 s", "beyond the limit for 15 of 60 s")
    )
    assert world.rollout.status.last_rollback is None


def test_a_value_within_the_limit_begins_the_time_anew() -> None:
    world = asking(0.6)
    until_beyond(world)
    world.live(45)
    gives(world, 0.4)
    world.live(15)
    assert only(world).verdict is Verdict.PASS
    gives(world, 0.6)
    world.live(15)
    assert only(world).message.startswith("beyond the limit for 0 of 60 s")


VERSIONED: dict[str, Any] = {"query": "refunds{artifact='$artifact', revision='$revision'}"}


def asked_of(world: TalkingRollout) -> tuple[str, str]:
    """What is asked about candidate and stable."""
    status = world.rollout.status
    candidate, samples, stable = queries(world.snapshot(), world.now)
    assert samples == "answers"
    for version, query in ((status.candidate, candidate), (status.stable, stable)):
        assert version is not None
        assert query == f"refunds{{artifact='{version.artifact_id}', revision='{version.revision}'}}"
    return candidate, stable


def versioned() -> tuple[TalkingRollout, str, str]:
    world = asking(0.6, **VERSIONED)
    while world.rollout.status.stage is None:
        world.live(1)
    return world, *asked_of(world)


def test_a_limit_that_stable_breaks_as_well_says_nothing_about_the_candidate() -> None:
    world, candidate, stable = versioned()
    gives(world, 0.6, candidate)
    gives(world, 0.7, stable)
    world.live(400)
    assert world.rollout.status.last_rollback is None
    assert (only(world).verdict, only(world).reason) == (Verdict.ERROR, Reason.BASELINE_UNHEALTHY)
    assert only(world).message.startswith(
        "stable breaks the limit too, its query gives 0.7: the query gives 0.6"
    )


@pytest.mark.parametrize("beside", [Answer(), Answer((0.1,))])
def test_a_limit_that_stable_keeps_or_has_no_value_for_is_the_candidates(beside: Answer) -> None:
    world, candidate, stable = versioned()
    gives(world, 0.6, candidate)
    gives(world, beside, stable)
    world.live(100)
    assert world.rollout.status.last_rollback is not None


def test_a_stable_that_cannot_be_asked_takes_no_candidate_back() -> None:
    world, candidate, stable = versioned()
    gives(world, 0.6, candidate)
    gives(world, Answer(problem="Prometheus is away"), stable)
    world.live(400)
    assert world.rollout.status.last_rollback is None
    assert only(world).message == "Prometheus is away"


def test_nothing_is_asked_before_a_candidate_serves_nor_of_guardrails_without_a_query() -> None:
    world = talking("errors", stages=STAGES, guardrails=[QUERY, {"name": "toolErrors"}])
    assert queries(world.snapshot(), world.now) == ()
    world.want("http://v2")
    while world.rollout.status.stage is None:
        world.live(1)
    assert queries(world.snapshot(), world.now) == ("refunds", "answers")


def test_a_value_that_moves_is_no_news() -> None:
    world = asking(0.1)
    world.live(60)
    before = world.rollout.status
    gives(world, 0.2)
    world.live(15)
    assert only(world).value == 0.2
    assert not is_news(before, world.rollout.status)


@pytest.mark.parametrize(
    ("guardrail", "words"),
    [
        ({"name": "own"}, "own: a guardrail of your own needs a query"),
        ({"name": "latency", "for": "1m"}, "max, min, for and samples belong to a guardrail with a query"),
        (QUERY | {"name": "latency"}, "have no query"),
        (QUERY | {"factor": 2}, "the limit of a query is max or min"),
        ({"name": "own", "query": "up", "samples": "up"}, "query needs max, min or both"),
        (QUERY | {"min": 1}, "min must not be above max"),
        (QUERY | {"for": "0s"}, "for must be a duration above zero"),
        ({"name": "own", "query": "up", "max": 1}, "action Rollback needs samples"),
    ],
)
def test_an_object_that_was_stored_before_the_crd_refused_it_is_refused(
    guardrail: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        Guardrail.model_validate(guardrail)
