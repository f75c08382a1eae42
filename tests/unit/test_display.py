"""What people see of rollouts, as text of a given width."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from controller.api.rollout import AgentRollout
from controller.display.compare import Version, compare
from controller.display.detail import detail, in_a_line
from controller.display.events import Happening, happenings
from controller.display.listing import listing
from controller.display.past import actions_on, history, versions_of
from controller.display.screen import Screen, repaint
from controller.display.words import age
from tests.crds.refusals import rollout
from tests.crds.status import CANDIDATE, NOW, STABLE, progressing

Raw = dict[str, Any]

LATER = NOW + timedelta(minutes=3, seconds=5)


def printed(what: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=StringIO(), width=width, markup=False, highlight=False)
    console.print(what)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def words(what: RenderableType, width: int = 80) -> str:
    return " ".join(" ".join(printed(what, width)).split())


def delivered(**status: Any) -> AgentRollout:
    manifest = rollout("support-agent")
    manifest["metadata"] |= {"namespace": "shop", "uid": "u", "generation": 4}
    return AgentRollout.model_validate({**manifest, "status": progressing() | status})


def event(reason: str, seconds: float, uid: str = "u", **more: Any) -> Raw:
    at = (NOW + timedelta(seconds=seconds)).isoformat()
    return {
        "metadata": {"name": reason.lower(), "creationTimestamp": at},
        "regarding": {"uid": uid},
        "eventTime": at,
        "type": "Normal",
        "reason": reason,
        "note": f"{reason} [it] happened",
        **more,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (3599, "59m"),
        (7200, "120m"),
        (4 * 3600, "4h"),
        (4 * 3600 + 60, "4h1m"),
        (30 * 3600, "30h"),
        (72 * 3600, "3d"),
    ],
)
def test_an_age_is_written_as_kubectl_does(seconds: float, text: str) -> None:
    assert age(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_of_a_rollout_has_all_that_matters_and_fits(width: int) -> None:
    lines = printed(detail(delivered(), happenings([event("StageStarted", 0)], "u"), LATER), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for part in (
        "shop/support-agent Progressing Insufficient",
        "stable support-agent-3f9a1c2b7d",
        "candidate support-agent-b81c55e0aa",
        "✓ internal ✓ 1% ● 10% · 100%",
        "10% for 3m5s of at least 30m, 812 of at least 100 requests",
        "10%, as the routers serve it",
        "AwaitingEvidence:",
        "latency Insufficient 0/0",
        "AnalysisFailed: worse than stable",
        "3m5s StageStarted StageStarted [it] happened",
    ):
        assert part in text, text


def test_the_screen_says_what_is_not_as_it_should_be() -> None:
    conditions = [
        {**each, "status": "False", "reason": "RouterUnavailable", "message": "no router is connected"}
        if each["type"] == "Programmed"
        else each
        for each in progressing()["conditions"]
    ]
    held = delivered(conditions=conditions, programmed="1%", observedGeneration=3)
    text = words(detail(held, [], LATER))
    assert "Programmed: no router is connected" in text
    assert "10% is wanted, the routers serve 1%" in text
    assert "the operator has not seen the last change yet" in text


def test_a_kill_is_told_with_its_way_out() -> None:
    killed = {"switch": "rollouts", "source": "ConfigMap", "since": progressing()["stage"]["enteredAt"]}
    said = {
        "type": "Killed",
        "status": "True",
        "reason": "KillSwitchOn",
        "message": "it was turned on; turn it off first",
        "lastTransitionTime": killed["since"],
    }
    held = delivered(killed=killed, state="Killed", conditions=[*progressing()["conditions"], said])
    text = words(detail(held, [], LATER))
    assert "killed for 3m5s: it was turned on; turn it off first" in text
    assert text.count("turn it off first") == 1


def test_a_rollout_that_nobody_has_seen_yet_is_shown() -> None:
    fresh = AgentRollout.model_validate(
        {
            **rollout("support-agent"),
            "metadata": {"name": "support-agent", "namespace": "shop", "generation": 1},
        }
    )
    assert "shop/support-agent Pending" in words(detail(fresh, [], LATER))
    assert in_a_line(fresh) == "shop/support-agent Pending: no stage, weight 0%"


def test_a_line_for_a_log_changes_with_what_is_of_note() -> None:
    assert in_a_line(delivered()) == (
        "shop/support-agent Progressing: stage 10%, weight 10%, Insufficient, AwaitingEvidence"
    )


def test_events_are_those_of_this_object_in_their_order_and_counted() -> None:
    series = {"count": 4, "lastObservedTime": (NOW + timedelta(seconds=100)).isoformat()}
    found = happenings([event("B", 0, series=series), event("A", 50), event("C", 70, uid="before")], "u")
    assert [(each.reason, each.count) for each in found] == [("A", 1), ("B", 4)]
    assert found[-1] == Happening(NOW + timedelta(seconds=100), "Normal", "B", "B [it] happened", 4)


def table(*rows: list[str | None], namespace: str = "shop") -> Raw:
    names = ["Name", "Stable", "Candidate", "Stage", "Weight", "State", "Verdict", "Age", "Message"]
    return {
        "columnDefinitions": [{"name": name, "priority": int(name == "Message")} for name in names],
        "rows": [
            {"cells": row, "object": {"metadata": {"name": row[0], "namespace": namespace}}} for row in rows
        ],
    }


ROW = [
    "support-agent",
    "support-agent-3f9a1c2b7d",
    None,
    "10%",
    "10%",
    "Progressing",
    "Insufficient",
    "3h",
    "waiting",
]


def test_a_list_fits_a_terminal_by_leaving_out_what_matters_least() -> None:
    wide = printed(listing(table(ROW), wide=False, namespaces=False, width=120), 120)
    assert wide[0].split() == ["NAME", "STABLE", "CANDIDATE", "STAGE", "WEIGHT", "STATE", "VERDICT", "AGE"]
    assert wide[1].split() == [
        "support-agent",
        "3f9a1c2b7d",
        "10%",
        "10%",
        "Progressing",
        "Insufficient",
        "3h",
    ]
    narrow = printed(listing(table(ROW), wide=False, namespaces=True, width=80))
    assert narrow[0].split() == ["NAMESPACE", "NAME", "CANDIDATE", "WEIGHT", "STATE", "VERDICT"]
    assert narrow[1].split() == ["shop", "support-agent", "10%", "Progressing", "Insufficient"]


def test_a_wide_list_and_one_for_a_pipe_leave_nothing_out() -> None:
    wide = printed(listing(table(ROW), wide=True, namespaces=False, width=200), 200)
    assert wide[1].split() == [str(cell) for cell in ROW if cell]
    piped = printed(listing(table(ROW), wide=False, namespaces=False, width=None), 2000)
    assert "AGE" in piped[0]


def revision(digits: str, minutes: float, rollout: str = "support-agent", **agent: Any) -> Raw:
    artifact = digits if digits.startswith("sha256:") else f"sha256:{digits * 64}"
    return {
        "metadata": {
            "name": f"{rollout}-{artifact[7:17]}",
            "creationTimestamp": (NOW + timedelta(minutes=minutes)).isoformat(),
        },
        "spec": {
            "rollout": rollout,
            "artifactID": artifact,
            "agent": {"code": {"url": "http://agent-v1:8080"}, **agent},
        },
    }


def action(name: str, minutes: float, rollout: str = "support-agent", **status: Any) -> Raw:
    made = (NOW + timedelta(minutes=minutes)).isoformat()
    spec = {
        "rollout": rollout,
        "artifactID": CANDIDATE,
        "action": name,
        "reason": "odd numbers",
        "requestedBy": "alice",
    }
    return {"metadata": {"name": name.lower(), "creationTimestamp": made}, "spec": spec, "status": status}


def test_the_history_says_what_became_of_each_version_and_of_those_that_are_gone() -> None:
    revisions = [
        revision(CANDIDATE, 2, model={"provider": "openai", "name": "gpt-x"}),
        revision(STABLE, 1, code={"service": {"name": "agent-v7", "port": 80}}),
        revision("5", 0),
        revision("7", 0, rollout="another"),
    ]
    versions = versions_of("support-agent", revisions)
    actions = actions_on(
        "support-agent", [action("Pause", 1), action("Abort", 2, phase="Applied", message="done")]
    )
    shown = history(
        delivered(), versions, actions, happenings([event("Promoted", 0)], "u"), LATER, wide=False
    )
    rows = [" ".join(line.split()) for line in printed(shown, 120)]
    assert rows[1:4] == [
        "support-agent-5555555555 3m5s replaced – http://agent-v1:8080",
        "support-agent-3f9a1c2b7d 2m5s stable – agent-v7:80",
        "support-agent-b81c55e0aa 65s candidate, attempt 1 gpt-x http://agent-v1:8080",
    ]
    text = words(shown, 120)
    assert "Also taken back, and not kept any more: 9999999999." in text
    assert "Last taken back: 9999999999 24h ago in stage 1%, AnalysisFailed: worse than stable" in text
    assert (
        "2m5s Pause alice b81c55e0aa Pending odd numbers 65s Abort alice b81c55e0aa Applied odd numbers – done"
        in text
    )
    assert "Promoted [it] happened" in text
    assert STABLE in words(history(delivered(), versions, [], [], LATER, wide=True), 200)


OLD: Raw = {
    "code": {"url": "http://agent-v1:8080"},
    "prompts": {"system": "You help.\nBe kind.", "gone": "x"},
    "model": {"provider": "openai", "name": "gpt-x", "parameters": {"temperature": 0.2}},
    "dependencies": {"tools/refund": "3.2.0", "lockfile": "sha256:9f"},
}


def test_two_versions_are_compared_part_by_part() -> None:
    new = {
        **OLD,
        "prompts": {"system": "You help.\nBe brief."},
        "promptsFrom": {"task": {"secretKeyRef": {"name": "prompts", "key": "v2"}, "digest": "hmac:1"}},
        "model": {"provider": "openai", "name": "gpt-x", "parameters": {"temperature": 0.4}},
        "dependencies": {"tools/refund": "3.3.0", "lockfile": "sha256:9f", "tools/search": "1"},
    }
    lines = [
        " ".join(line.split())
        for line in printed(compare(Version("a-1", "stable", OLD), Version("a-2", "", new)))
    ]
    assert lines[0] == "a-1 (stable) → a-2"
    for line in (
        "MODEL a-1 a-2",
        "parameters.temperature 0.2 0.4",
        "2 more are the same",
        "tools/refund 3.2.0 3.3.0",
        "tools/search – 1",
        "1 more is the same",
        "PROMPT gone was removed",
        "PROMPT system changed",
        "-Be kind.",
        "+Be brief.",
        "PROMPT task was added",
        "+in Secret prompts, key v2, digest hmac:1",
    ):
        assert line in lines, lines
    assert not [line for line in lines if line.startswith(("CODE", "+++", "---"))]


def test_a_version_does_not_differ_from_itself() -> None:
    same = Version("a-1", "", OLD)
    assert printed(compare(same, same))[1:] == ["There is no difference."]


def drawn(height: int = 24, width: int = 40) -> tuple[Screen, list[str]]:
    written: list[str] = []
    console = Console(file=StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    return Screen(console, written.append), written


def test_only_lines_that_changed_are_written_and_nothing_is_cleared() -> None:
    screen, written = drawn()
    with screen:
        screen.show(Text("one\ntwo\nthree"))
        screen.show(Text("one\nTWO\nthree"))
        screen.show(Text("one\nTWO\nthree"))
        screen.show(Text("one"))
    hidden, first, second, fewer, shown = written
    assert (hidden, shown) == ("\x1b[?25l", "\x1b[?25h")
    assert first == "\rone\x1b[K\n\rtwo\x1b[K\n\rthree\x1b[K\n\r"
    assert second == "\x1b[2A\rTWO\x1b[K\n\x1b[1B\r"
    assert fewer == "\x1b[2A\r\x1b[J"
    assert not [text for text in written if "\x1b[2J" in text or "\x1b[H" in text]


def test_what_is_longer_than_the_terminal_says_so() -> None:
    screen, written = drawn(height=4)
    screen.show(Text("1\n2\n3\n4\n5"))
    assert written == ["\r1\x1b[K\n\r2\x1b[K\n\r… 3 more lines: make the terminal taller\x1b[K\n\r"]


@pytest.mark.parametrize("seed", range(30))
def test_a_terminal_shows_the_new_lines_whatever_it_showed_before(seed: int) -> None:
    old = [f"line {(seed * 7 + n * n) % 5}" for n in range(seed % 6)]
    new = [f"line {(seed * 3 + n * n) % 5}" for n in range(seed % 7)]
    assert emulated(old, repaint(old, new)) == new


def emulated(lines: list[str], text: str) -> list[str]:
    """What a terminal shows, with the cursor below these lines, after the text."""
    found, at = dict(enumerate(lines)), len(lines)
    while text:
        if text.startswith("\x1b["):
            end = next(i for i, letter in enumerate(text) if letter in "ABKJ")
            count, letter = text[2:end], text[end]
            at += {"A": -1, "B": 1}.get(letter, 0) * int(count or 0)
            if letter == "J":
                found = {line: shown for line, shown in found.items() if line < at}
            text = text[end + 1 :]
            continue
        if text[0] == "\n":
            at += 1
        elif text[0] == "\r":
            if not text[1:].startswith("\x1b") and text[1:]:
                found[at] = ""
        else:
            found[at] += text[0]
        text = text[1:]
    return [found[line] for line in sorted(found)]


def test_a_wider_terminal_is_drawn_anew() -> None:
    screen, written = drawn(width=40)
    screen.show(Text("one"))
    screen._console.width = 60
    screen.show(Text("one"))
    assert written == ["\rone\x1b[K\n\r"] * 2
