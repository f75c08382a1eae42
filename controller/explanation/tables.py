"""What the evidence says now, and said over time, in tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich import box
from rich.table import Table
from rich.text import Text

from controller.api.reasons import ConditionType, Verdict
from controller.api.rollout import AgentRollout
from controller.api.status import GuardrailStatus, MetricStatus
from controller.core.verdict import rate
from controller.explanation.timeline import MetricPoint, Point, Timeline

ROWS = 16
"""Of the table over time: as many as fit a screen together with the rest."""

METRICS_ACROSS = 3
"""So many metrics fit side by side; the plot has them all."""

_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INSUFFICIENT: "yellow",
    Verdict.ERROR: "magenta",
}


def headline(rollout: AgentRollout) -> Text:
    """Where the rollout stands, in a sentence or two."""
    status, key = rollout.status, rollout.metadata.key
    text = Text.assemble((key, "bold"), f" is {status.state}")
    if status.candidate:
        where = f"in stage {status.stage.title}" if status.stage else "before its first stage"
        text.append(
            f": candidate {status.candidate.revision}, attempt {status.candidate.attempt}, is {where}"
        )
    elif status.last_rollback:
        back = status.last_rollback
        text.append(
            f": {back.artifact_id[:17]}… was taken back at {_clock(back.at)}"
            + (f" in stage {back.stage}" if back.stage else "")
        )
    said = status.condition(ConditionType.PROGRESSING)
    if said and said.message:
        text.append(f"\n{said.reason}: {said.message}")
    return text


def verdicts(metrics: Sequence[MetricStatus], evaluated_at: datetime | None) -> Table:
    """What each metric says, with its numbers.

    Args:
        metrics: As stored.
        evaluated_at: Of when they are: status is written with news, or once a minute.
    """
    title = "Evidence of the stage" + (f", as stored at {_clock(evaluated_at)}" if evaluated_at else "")
    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("metric", no_wrap=True)
    table.add_column("verdict")
    for name in ("candidate", "stable", "e-value", "fails at"):
        table.add_column(name, justify="right", no_wrap=True)
    for metric in metrics:
        style = _STYLES[metric.verdict]
        word = f"{metric.verdict}, {metric.reason}" if metric.reason else str(metric.verdict)
        table.add_row(
            metric.name,
            Text(word, style),
            rate(metric.candidate),
            rate(metric.baseline),
            f"{metric.evidence:.3g}",
            f"{metric.threshold:g}",
        )
    return table


def sentences(metrics: Sequence[MetricStatus]) -> Iterator[Text]:
    """Why each metric says so."""
    for metric in metrics:
        yield Text.assemble((metric.name, "bold"), f": {metric.message}")


def limits(guardrails: Sequence[GuardrailStatus]) -> Iterator[Text]:
    """What each guardrail says."""
    for each in guardrails:
        follows = "" if each.verdict is Verdict.PASS else f" ({each.action})"
        yield Text.assemble((f"limit of {each.name}", "bold"), f": {each.verdict}{follows}, {each.message}")


def over_time(found: Timeline, rows: int = ROWS) -> Table:
    """The timeline at instants that tell most: where a stage or a verdict changes, and evenly between."""
    shown = found.metrics[:METRICS_ACROSS]
    left = len(found.metrics) - len(shown)
    caption = "Bad of all events so far in the stage, candidate / stable; e-value." + (
        f" {left} calmer metrics are left out." if left else ""
    )
    table = Table(
        box=box.SIMPLE_HEAD, title="Over time", title_justify="left", caption=caption, caption_justify="left"
    )
    table.add_column("time", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right")
    for point in telling(found.points, rows):
        cells = (_cell(point.metrics.get(name)) for name in shown)
        table.add_row(_clock(point.at), point.stage or "–", *cells)
    return table


def telling(points: Sequence[Point], rows: int) -> list[Point]:
    """At most ``rows`` of the points, in their order: first and last, changes, and others evenly between."""
    if len(points) <= rows:
        return list(points)
    kept = {0, len(points) - 1}
    changes = [i for i in range(1, len(points)) if _words(points[i]) != _words(points[i - 1])]
    kept.update(_evenly(changes, rows - len(kept)))
    rest = [i for i in range(len(points)) if i not in kept]
    kept.update(_evenly(rest, rows - len(kept)))
    return [points[i] for i in sorted(kept)]


def _evenly(indices: Sequence[int], count: int) -> list[int]:
    """So many of the indices, spread over all of them."""
    if len(indices) <= count:
        return list(indices)
    return [indices[(2 * number + 1) * len(indices) // (2 * count)] for number in range(count)]


def _words(point: Point) -> tuple[str, ...]:
    return point.stage, *(f"{name} {metric.verdict}" for name, metric in sorted(point.metrics.items()))


def _cell(metric: MetricPoint | None) -> Text:
    if metric is None:
        return Text("–")
    style = next((style for verdict, style in _STYLES.items() if verdict.value == metric.verdict), "")
    shares = " / ".join(
        f"{100 * counts.bad / counts.total:.3g} %" if counts.total else "–"
        for counts in (metric.candidate, metric.baseline)
    )
    return Text.assemble(f"{shares}  ", (f"{metric.e_value:.3g}", style))


def _clock(time: datetime) -> str:
    return f"{time:%m-%d %H:%M:%S}"
