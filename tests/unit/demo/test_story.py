from __future__ import annotations

import pytest

from examples.demo import acts
from examples.demo.acts import Ending, ending, is_rejected, is_stable, latency_limit, shortcomings
from examples.demo.events import Event, Tone, transitions
from examples.demo.story import Chapter, Story
from tests.unit.demo.stories import NOW, PROGRAMMED, condition, metric, promoted, rollout, staged, taken_back

GOOD, BAD, SLOW, USELESS = acts.all_acts()


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events]


def test_the_first_version_is_news() -> None:
    assert texts(transitions(None, rollout(), NOW)) == ["support-agent-1111111111 is stable"]


def test_a_state_seen_twice_is_no_news() -> None:
    state = staged(analysis=[metric("errors", "Pass")])
    assert transitions(state, state, NOW) == []


def test_a_candidate_and_its_stage_are_news_once_envoy_has_acknowledged() -> None:
    entered = transitions(rollout(), staged(programmed=False), NOW)
    acknowledged = transitions(staged(programmed=False), staged(), NOW)
    assert texts(entered) == ["support-agent-2222222222 accepted as candidate"]
    assert texts(acknowledged) == ["stage 10%: acknowledged by Envoy after 12 ms"]


def test_a_verdict_is_news_with_its_numbers_but_not_while_there_are_too_few() -> None:
    few = staged(analysis=[metric("errors", "Insufficient")])
    enough = staged(analysis=[metric("errors", "Pass", bad=1)])
    assert transitions(staged(), few, NOW) == []
    assert transitions(few, enough, NOW) == [Event(NOW, "errors: Pass, 1 of 80 against 1 of 200", Tone.GOOD)]


def test_only_those_pass_whom_the_stage_is_about() -> None:
    both = [metric("errors", "Pass"), metric("errors (audience)", "Pass")]
    for state, name in ((staged(), "errors"), (staged(0, "internal"), "errors (audience)")):
        verdicts = state.model_copy(update={"status": rollout(analysis=both).status})
        seen = verdicts.model_copy(
            update={"status": verdicts.status.model_copy(update={"stage": state.status.stage})}
        )
        assert texts(transitions(state, seen, NOW)) == [f"{name}: Pass, 0 of 80 against 1 of 200"]


def test_a_failed_verdict_is_told_as_the_rollback_it_causes() -> None:
    failed = taken_back(analysis=[metric("errors", "Fail")])
    assert texts(transitions(staged(), failed, NOW)) == ["taken back on errors: worse than stable"]


def test_a_rollback_is_news_at_the_instant_it_was_decided() -> None:
    (event,) = transitions(staged(), taken_back(), NOW)
    assert event.text == "taken back on errors: worse than stable"
    assert (event.at - NOW).total_seconds() == 9


def test_blindness_is_news_with_its_reason() -> None:
    blind = staged(
        state="Blind", conditions=[condition("Progressing", "True", "AnalysisBlind", "no samples")]
    )
    assert texts(transitions(staged(), blind, NOW)) == ["Blind: no samples"]


def test_a_delivery_has_not_ended_before_envoy_was_told() -> None:
    pending = taken_back().model_copy(
        update={"status": taken_back().status.model_copy(update={"conditions": []})}
    )
    assert ending(rollout().status, staged().status) is None
    assert ending(rollout().status, pending.status) is None
    assert ending(rollout().status, taken_back().status) is Ending.TAKEN_BACK
    assert ending(rollout().status, promoted().status) is Ending.PROMOTED


def test_an_earlier_rollback_is_not_the_end_of_the_next_delivery() -> None:
    assert ending(taken_back().status, taken_back().status) is None


def test_stable_means_acknowledged_and_without_candidate() -> None:
    assert is_stable(rollout())
    assert not is_stable(rollout(conditions=[]))
    assert not is_stable(staged())


def test_slow_is_what_the_product_calls_slow() -> None:
    metrics = [{"name": "errors"}, {"name": "latency", "edges": [100, 400]}, {"name": "latency (audience)"}]
    assert latency_limit(staged(evidence={"metrics": metrics})) == 0.4
    assert latency_limit(staged()) == 0


def test_rejection_counts_for_the_applied_generation_only() -> None:
    refused = rollout(conditions=[condition("Accepted", "False", "BackendNotAllowed")])
    assert is_rejected(refused, 1)
    assert not is_rejected(refused, 2)
    assert not is_rejected(rollout(), 1)


ALL_STAGES = ["internal", "1%", "10%", "50%", "100%"]


def test_acts_that_end_as_they_should_have_no_shortcomings() -> None:
    assert not shortcomings(GOOD, promoted(), Ending.PROMOTED, ALL_STAGES)
    assert not shortcomings(BAD, taken_back("errors"), Ending.TAKEN_BACK, ["internal"])
    assert not shortcomings(BAD, taken_back("errors (audience)"), Ending.TAKEN_BACK, ["internal", "1%"])
    assert not shortcomings(SLOW, taken_back("latency"), Ending.TAKEN_BACK, ["internal"])
    assert not shortcomings(USELESS, taken_back("shadow"), Ending.TAKEN_BACK, ["shadow"], met=0)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (shortcomings(GOOD, promoted(), Ending.PROMOTED, ["internal", "100%"]), "but passed internal, 100%."),
        (
            shortcomings(GOOD, taken_back(), Ending.TAKEN_BACK, []),
            "promoted and was taken back: worse than stable.",
        ),
        (
            shortcomings(BAD, promoted(), Ending.PROMOTED, ALL_STAGES),
            "taken back on errors and was promoted.",
        ),
        (
            shortcomings(SLOW, taken_back("errors"), Ending.TAKEN_BACK, []),
            "taken back on errors and not on latency",
        ),
        (
            shortcomings(USELESS, taken_back("shadow"), Ending.TAKEN_BACK, ["shadow"], met=3),
            "should have met no user and answered 3 requests",
        ),
        (
            shortcomings(USELESS, promoted(), Ending.PROMOTED, ["shadow", *ALL_STAGES]),
            "taken back in shadow and was promoted.",
        ),
    ],
)
def test_whatever_else_happened_is_said(problem: str, words: str) -> None:
    assert words in problem


def test_a_story_keeps_events_and_stages_by_act() -> None:
    heard: list[tuple[Chapter, Event]] = []
    story = Story(lambda chapter, event: heard.append((chapter, event)))
    story.see(rollout())
    chapter = story.begin(GOOD)
    for state in (staged(0, "internal"), staged(1, "1%"), staged(1, "1%"), staged(2, "10%"), promoted()):
        story.see(state)

    assert chapter.stages_seen == ["internal", "1%", "10%"]
    assert story.last_with_candidate == staged(2, "10%")
    assert [each.act for each, _ in heard][:2] == [None, GOOD]
    assert texts(chapter.events)[-1] == "support-agent-2222222222 is stable"


def test_programmed_is_what_the_condition_says() -> None:
    assert is_stable(rollout(conditions=[PROGRAMMED]))
    assert not is_stable(rollout(conditions=[condition("Programmed", "False", "Pending")]))
