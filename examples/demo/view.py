"""The live view: one picture of the rollout and of what users meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from controller.api.delivery import WHOLE_PPM, Stage
from controller.api.quantities import format_percent
from controller.api.reasons import ConditionType, Verdict
from controller.api.rollout import AgentRollout
from controller.api.status import MetricStatus, RolloutStatus
from controller.core.stages import title
from examples.demo.events import Event, numbers
from examples.demo.observations import Recent
from examples.demo.story import Chapter

_EVENT_LINES = 8
_CLOCK_WIDTH = 10
_BAR_WIDTH = 30
_VERDICT_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.ERROR: "red"}


@dataclass(frozen=True)
class Scene:
    """All that one picture shows.

    Attributes:
        chapter: The act and its events.
        acts: How many acts there are.
        rollout: The AgentRollout as last seen; None before it was.
        recent: What users met in the last seconds.
        requests: What users asked since the demo began.
        failed: How many of these failed.
        now: The instant of the picture.
    """

    chapter: Chapter
    acts: int
    rollout: AgentRollout | None
    recent: Recent
    requests: int
    failed: int
    now: datetime

    @property
    def status(self) -> RolloutStatus:
        """The AgentRollout's status."""
        return self.rollout.status if self.rollout else RolloutStatus()

    @property
    def stages(self) -> list[Stage]:
        """The stages in their order, the one in the shadow first if there is one."""
        return self.rollout.spec.all_stages if self.rollout else []


def render(scene: Scene) -> RenderableType:
    """The picture."""
    return Panel(
        Group(
            _headline(scene),
            Text(),
            _stages(scene),
            Text(),
            _shares(scene),
            Text(),
            _verdicts(scene),
            _legend(scene.status.analysis),
            Text(),
            _users(scene),
            Text(),
            _EventLog(scene.chapter),
        ),
        title="agentrollout",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def status_line(scene: Scene) -> str:
    """The picture in one line, for logs."""
    status, version = scene.status, _version(scene)
    stage = status.stage.title if status.stage else "-"
    verdicts = ", ".join(f"{m.name} {m.verdict} ({numbers(m)})" for m in status.analysis) or "none"
    return (
        f"{status.state}, stage {stage}, weight {format_percent(status.weight)}, "
        f"programmed {_percent(status.programmed)}, observed {scene.recent.shares.get(version, 0):.1%} "
        f"(internal {scene.recent.internal_shares.get(version, 0):.1%}), verdicts: {verdicts}; "
        f"users: {scene.recent.requests_per_second:.0f} requests/s, {scene.recent.failed} failed in 5 s"
    )


@dataclass(frozen=True)
class _EventLog:
    """The newest lines of the event log; long events take two, and there is always room for the same number."""

    chapter: Chapter

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        newest = self.chapter.events[-_EVENT_LINES:]
        width = options.max_width - _CLOCK_WIDTH
        lines = [line for event in newest for line in self._lines(event, console, width)][-_EVENT_LINES:]
        yield from lines
        yield from [Text()] * (_EVENT_LINES - len(lines))

    def _lines(self, event: Event, console: Console, width: int) -> Iterator[Text]:
        when = f"{clock(event.at, self.chapter.began):>8}"
        for part in Text(event.text, style=str(event.tone)).wrap(console, width):
            yield Text(when.ljust(_CLOCK_WIDTH), style="bright_black").append(part)
            when = ""


def clock(at: datetime, began: datetime) -> str:
    """Seconds since the act began, such as ``+12.3 s``."""
    return f"{(at - began).total_seconds():+.1f} s"


def _version(scene: Scene) -> str:
    return scene.chapter.act.version.name if scene.chapter.act else ""


def _headline(scene: Scene) -> Text:
    act = scene.chapter.act
    if act is None:
        return Text("The first version takes over\n", style="bold")
    elapsed = (scene.now - scene.chapter.began).total_seconds()
    line = Text(f"Act {act.number} of {scene.acts}", style="bold")
    line.append(f" {act.version.name}: {act.story}\n")
    line.append(f"{elapsed:>7.0f} s  ", style="bright_black")
    return line.append(f" It should be {act.expectation}.", style="cyan")


def _stages(scene: Scene) -> Text:
    titles, lost = [title(stage) for stage in scene.stages], _taken_back_at(scene)
    current = scene.status.stage.index if scene.status.stage else None
    reached = titles.index(lost) if lost in titles else current
    line = Text("Stage      ")
    for index, name in enumerate(titles):
        if reached is None or index > reached:
            line.append(f" {name} ", style="bright_black")
        elif index < reached:
            line.append(f" {name} ✓", style="green")
        elif current is None:
            line.append(f" {name} ✗", style="bold red")
        else:
            line.append(f" {name} ", style="reverse bold")
        line.append("  ")
    return line.append(f"  {scene.status.state}", style="bold")


def _taken_back_at(scene: Scene) -> str:
    """Title of the stage in which this act's version was taken back; empty if it was not."""
    record = scene.status.last_rollback
    is_news = scene.status.candidate is None and record is not None and record.at >= scene.chapter.began
    return record.stage if record and is_news else ""


def _shares(scene: Scene) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bright_black")
    for column in ("Share of the new version", "wanted", "acknowledged", "users see", ""):
        table.add_column(column)
    status, version = scene.status, _version(scene)
    everyone = scene.recent.shares.get(version, 0.0)
    internal = scene.recent.internal_shares.get(version, 0.0)
    table.add_row(
        "everyone",
        format_percent(status.weight),
        _percent(status.programmed),
        f"{everyone:.1%}",
        _bar(everyone),
    )
    wanted = _audience_weight(scene)
    programmed = status.condition(ConditionType.PROGRAMMED)
    acknowledged = programmed is not None and programmed.status == "True"
    table.add_row(
        "internal users",
        format_percent(wanted),
        _percent(wanted if acknowledged else None),
        f"{internal:.1%}",
        _bar(internal),
    )
    return table


def _audience_weight(scene: Scene) -> int:
    """A passed audience keeps its weight until the end."""
    if scene.status.stage is None:
        return 0
    passed = scene.stages[: scene.status.stage.index + 1]
    return max([stage.weight_ppm for stage in passed if stage.audience] + [scene.status.weight])


def _verdicts(scene: Scene) -> Table:
    analysis = scene.status.analysis
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bright_black")
    for column, width in (
        ("Verdicts", 18),
        ("", 12),
        ("new version", 17),
        ("stable", 18),
        ("evidence of harm", 19),
    ):
        table.add_column(column, width=width, no_wrap=True)
    if not analysis:
        table.add_row("no requests yet" if scene.status.candidate else "nothing to judge")
    for metric in analysis:
        table.add_row(
            metric.name,
            Text(metric.verdict, style=_VERDICT_STYLES.get(metric.verdict, "yellow")),
            _rate(metric.candidate.bad, metric.candidate.total),
            _rate(metric.baseline.bad, metric.baseline.total),
            f"{metric.evidence:.3g} of {metric.threshold:.0f}",
        )
    # Always the same height: a picture that jumps cannot be read.
    for _ in range(_rows(scene) - max(1, len(analysis))):
        table.add_row("")
    return table


def _legend(analysis: list[MetricStatus]) -> Text:
    if not analysis:
        return Text()
    threshold = max(metric.threshold for metric in analysis)
    words = f"Evidence of harm: 1 is none, at {threshold:.0f} the new version is taken back."
    return Text(words, style="bright_black", no_wrap=True, overflow="ellipsis")


def _rows(scene: Scene) -> int:
    """How many verdicts there are when everything is watched."""
    if scene.rollout is None:
        return 1
    groups = 1 + any(stage.audience is not None for stage in scene.stages)
    return len(scene.rollout.spec.analysis.metrics) * groups


def _users(scene: Scene) -> Text:
    recent = scene.recent
    line = Text(
        f"Users      {recent.requests_per_second:.0f} requests/s, {recent.median_seconds * 1000:.0f} ms median, "
    )
    line.append(f"{recent.failed} failed in the last 5 s\n", style="red" if recent.failed else "default")
    return line.append(
        f"           {scene.requests} requests in all, {scene.failed} failed", style="bright_black"
    )


def _bar(share: float) -> Text:
    filled = round(share * _BAR_WIDTH)
    return Text("█" * filled, style="cyan").append("░" * (_BAR_WIDTH - filled), style="bright_black")


def _rate(bad: int, total: int) -> str:
    return f"{bad}/{total} ({bad / total:.1%})" if total else "–"


def _percent(ppm: int | None) -> str:
    return "–" if ppm is None else format_percent(min(ppm, WHOLE_PPM))
