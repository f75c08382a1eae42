"""Whatever order a version calls recorded tools in, it gets what stable got, or diverges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.core.shadow.replay import RecordedTools, Replay, ReplayEnd, read_run
from controller.core.shadow.reply import ToolCall
from tests.unit.shadow.runs import answer, asked, calls, pair

CALL = st.tuples(st.sampled_from(["find", "track", "cancel"]), st.sampled_from(['{"id": 1}', '{"id": 2}']))
STEPS = st.lists(st.lists(CALL, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


def recorded(steps: list[tuple[tuple[str, str], ...]]) -> RecordedTools:
    run = read_run(pair(asked(*steps)))
    assert run is not None
    return RecordedTools(run.steps)


@given(STEPS, st.randoms(use_true_random=False))
def test_a_version_that_does_the_same_in_any_order_within_steps_comes_to_its_answer(
    steps: list[tuple[tuple[str, str], ...]], random: st.DataObject
) -> None:
    run = read_run(pair(asked(*steps)))
    assert run is not None
    replay = Replay(run)
    for step in steps:
        assert replay.take(calls(*random.sample(step, len(step)))) is None  # type: ignore[attr-defined]
    assert replay.take(answer("Done.")) is ReplayEnd.MATCHED
    assert replay.progress.calls == replay.progress.recorded == sum(map(len, steps))
    assert not replay.progress.diverged


@given(STEPS, st.lists(CALL, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_whether_calls_have_results_and_which_does_not_depend_on_their_order(
    steps: list[tuple[tuple[str, str], ...]], wanted: list[tuple[str, str]], random: st.DataObject
) -> None:
    tools = [ToolCall(*call) for call in wanted]
    mixed = random.sample(tools, len(tools))  # type: ignore[attr-defined]
    one, other = recorded(steps).take(tools), recorded(steps).take(mixed)
    assert (one is None) is (other is None)
    if one is not None and other is not None:
        assert sorted(each["content"] for each in one) == sorted(each["content"] for each in other)


@given(STEPS, st.lists(st.lists(CALL, min_size=1, max_size=3), max_size=6))
def test_every_result_is_given_once_and_only_after_all_of_the_steps_before(
    steps: list[tuple[tuple[str, str], ...]], wanted: list[list[tuple[str, str]]]
) -> None:
    tools, given_ = recorded(steps), []
    for step in wanted:
        found = tools.take([ToolCall(*call) for call in step])
        if found is None:
            break
        given_ += sorted(each["content"] for each in found)
        assert len(set(given_)) == len(given_) == tools.taken
    places = [int(content.split()[1].split("-")[0]) for content in given_]
    for place in set(places):
        for before in range(place):
            assert places.count(before) == len(steps[before])
    assert tools.ended is (tools.taken == sum(map(len, steps)))
