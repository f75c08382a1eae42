from __future__ import annotations

import io
from datetime import timedelta

import pytest
from rich.console import Console, RenderableType

from controller.api.reasons import Verdict
from controller.api.rollout import AgentRollout
from controller.api.status import Counts, MetricStatus
from examples.demo import acts
from examples.demo.acts import Act, Ending
from examples.demo.events import Event, Tone
from examples.demo.observations import Recent, VersionTotals
from examples.demo.report import report
from examples.demo.result import ActResult, TakenBack
from examples.demo.screen import PlainScreen, open_screen
from examples.demo.story import Chapter
from examples.demo.view import Scene, render, status_line
from tests.unit.demo.stories import NOW, condition, metric, rollout, staged, taken_back

GOOD, BAD, SLOW, USELESS = acts.all_acts()
RECENT = Recent(180.0, 3, 0.018, {"v1": 0.9, "v2": 0.1}, {"v2": 1.0})


def scene(**changes: object) -> Scene:
    events = [Event(NOW + timedelta(seconds=second), f"event {second}") for second in range(20)]
    values = {
        "chapter": Chapter(GOOD, NOW, events),
        "acts": 3,
        "rollout": staged(analysis=[metric("errors", "Pass", bad=1), metric("latency", "Insufficient")]),
        "recent": RECENT,
        "requests": 4321,
        "failed": 17,
        "now": NOW + timedelta(seconds=12),
    }
    return Scene(**(values | changes))  # type: ignore[arg-type]


def printed(*parts: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_the_picture_shows_stage_weight_observed_share_verdicts_and_errors() -> None:
    picture = printed(render(scene()))
    for words in (
        "Act 1 of 3", "internal ✓", "1% ✓", "Progressing", "10.0%", "100.0%", "1/80 (1.2%)", "1.25 of 2000",
        "180 requests/s", "3 failed in the last 5 s", "4321 requests in all, 17 failed", "event 19",
    ):  # fmt: skip
        assert words in picture
    assert "event 9" not in picture


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_picture_keeps_within_the_terminal_and_keeps_its_height(width: int) -> None:
    full, bare = printed(render(scene()), width=width), printed(render(scene(rollout=staged())), width=width)
    assert max(map(len, full.splitlines())) <= width
    assert len(full.splitlines()) == len(bare.splitlines()) <= 30


@pytest.mark.parametrize("width", [80, 100])
def test_the_audience_has_verdicts_of_its_own_which_keep_the_height(width: int) -> None:
    names = [f"{name}{whose}" for whose in ("", " (audience)") for name in ("errors", "latency")]
    four = staged(analysis=[metric(name, "Pass") for name in names])
    full, bare = (printed(render(scene(rollout=each)), width=width).splitlines() for each in (four, staged()))
    assert len(full) == len(bare) <= 30
    assert max(map(len, full)) <= width
    if width == 100:
        assert all(name in "\n".join(full) for name in names)


def test_what_is_empty_says_why_and_evidence_is_explained() -> None:
    assert "no requests yet" in printed(render(scene(rollout=staged())))
    assert "nothing to judge" in printed(render(scene(rollout=rollout())))
    assert "at 2000 the new version is taken back" in printed(render(scene()))


def test_internal_users_are_acknowledged_when_the_split_is() -> None:
    def row(state: AgentRollout) -> list[str]:
        lines = printed(render(scene(rollout=state))).splitlines()
        return next(line for line in lines if "internal users" in line).split()[3:5]

    assert row(staged()) == ["100%", "100%"]
    assert row(staged(conditions=[condition("Programmed", "False", "Pending")])) == ["100%", "–"]


def test_a_rollback_is_shown_where_it_happened_and_in_full() -> None:
    message = "worse than stable: candidate 9/43 (20.9%), baseline 7/151 (4.6%), e-value 2.1e+03 of 2000"
    text = f"taken back on errors (audience): {message}"
    chapter = Chapter(BAD, NOW, [Event(NOW + timedelta(seconds=9), text)])
    picture = printed(render(scene(rollout=taken_back("errors (audience)"), chapter=chapter)))
    assert "internal ✓" in picture
    assert "1% ✗" in picture
    assert text in " ".join(picture.replace("│", " ").split())
    later = Chapter(BAD, NOW + timedelta(seconds=20))
    assert "✗" not in printed(render(scene(rollout=taken_back(), chapter=later))), "that was another act"


def test_there_is_a_picture_before_anything_happened() -> None:
    empty = Recent(0.0, 0, 0.0, {}, {})
    picture = printed(render(scene(chapter=Chapter(None, NOW), rollout=None, recent=empty)))
    assert "The first version takes over" in picture


def test_the_same_in_one_line_for_logs() -> None:
    line = status_line(scene())
    assert "stage 10%, weight 10%, programmed 10%, observed 10.0% (internal 100.0%)" in line
    assert "errors Pass (1 of 80 against 1 of 200)" in line


def test_events_are_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=60)
    with open_screen(console) as screen:
        assert isinstance(screen, PlainScreen)
        screen.event(Chapter(BAD, NOW), Event(NOW + timedelta(seconds=3), "taken back [on] errors"))
        screen.scene(scene)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "act 2   +3.0 s  taken back [on] errors\n"


def result(act: Act, **changes: object) -> ActResult:
    values = {
        "act": act,
        "began": NOW,
        "ended": NOW + timedelta(seconds=14),
        "ending": act.ending,
        "problem": "",
        "events": (Event(NOW + timedelta(seconds=9), "taken back on errors", Tone.BAD),),
        "met": VersionTotals(61, 12, 1, *(NOW + timedelta(seconds=second) for second in (9.2, 4, 3))),
        "requests": 2500,
        "failed": 20,
    }
    return ActResult(**(values | changes))  # type: ignore[arg-type]


def test_the_report_tells_what_happened_when_and_what_users_met() -> None:
    back = TakenBack(*(NOW + timedelta(seconds=second) for second in (8.0, 9.0, 9.015)))
    text = printed(
        *report([result(GOOD), result(BAD, taken_back=back, metric="errors (audience)", slow_seconds=0.4)])
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    second = lines.index("Act 2 v3: a prompt that makes one answer in five fail")

    assert "evidence to weight 0 in Envoy – 1.01 s" in lines
    assert "of it after the verdict – 15 ms" in lines
    assert "was promoted taken back on errors" in lines
    met = lines.index("requests that met the version 61 61")
    assert lines[met + 1 : met + 3] == ["failed 12 12", "slower than the limit – 1 (> 400 ms)"]
    assert lines[second + 4 : second + 10] == [
        "+4.0 s a user meets the first failed answer of v3",
        "+8.0 s the samples stored in Prometheus suffice to decide",
        "+9.0 s taken back on errors",
        "+9.0 s Envoy acknowledges weight 0 for v3",
        "+9.2 s the last answer of v3 reaches a user",
        "",
    ]


def test_a_version_that_nobody_met_is_told_by_what_was_compared() -> None:
    compared = MetricStatus(name="shadow", verdict=Verdict.FAIL, candidate=Counts(bad=61, total=204))
    text = printed(*report([result(USELESS, metric="shadow", compared=compared, met=VersionTotals())]))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "was taken back in shadow" in lines
    assert "answers compared, lost 204, 61" in lines
    assert "requests that met the version 0" in lines


def test_a_version_that_is_slow_is_met_by_its_first_slow_answer() -> None:
    back = TakenBack(*(NOW + timedelta(seconds=second) for second in (8.0, 9.0, 9.015)))
    text = printed(*report([result(SLOW, taken_back=back, metric="latency")]))
    assert "+3.0 s   a user meets the first slow answer of v4" in text


def test_what_was_seen_first_is_told_first_whatever_clocks_say() -> None:
    seen = [Event(NOW + timedelta(seconds=1.02), "accepted"), Event(NOW + timedelta(seconds=1.01), "stage")]
    text = printed(*report([result(GOOD, events=tuple(seen))]))
    assert text.index("accepted") < text.index("stage")


def test_an_act_without_end_is_reported_as_such() -> None:
    assert "not finished" in printed(*report([result(BAD, ending=None, problem="Waited in vain.")]))


def test_expectations_name_the_metric() -> None:
    assert (GOOD.expectation, BAD.expectation) == ("promoted", "taken back on errors")
    assert USELESS.expectation == "taken back in shadow"
    assert [act.ending for act in acts.all_acts()] == [Ending.PROMOTED, *[Ending.TAKEN_BACK] * 3]
