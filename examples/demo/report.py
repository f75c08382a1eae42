"""What is printed at the end: a table for each act, and one for all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from examples.demo.acts import Ending
from examples.demo.events import Event, Tone, base_metric
from examples.demo.result import ActResult
from examples.demo.view import clock


def report(results: Sequence[ActResult]) -> Iterator[RenderableType]:
    """Everything to print, top to bottom."""
    for result in results:
        yield act_table(result)
    yield summary(results)


def act_table(result: ActResult) -> Table:
    """What happened when."""
    act = result.act
    table = Table(
        title=f"Act {act.number}  {act.version.name}: {act.story}", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("when", justify="right", no_wrap=True)
    table.add_column("what happened")
    for event in _in_order(result):
        table.add_row(clock(event.at, result.began), Text(event.text, style=str(event.tone)))
    return table


def summary(results: Sequence[ActResult]) -> Table:
    """One column an act."""
    table = Table(title="Summary", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for result in results:
        table.add_column(f"Act {result.act.number}: {result.act.version.name}", justify="right")
    for label, cells in _rows(results):
        table.add_row(label, *cells)
    return table


def _rows(results: Sequence[ActResult]) -> Iterator[tuple[str, list[RenderableType]]]:
    yield "should be", [result.act.expectation for result in results]
    yield "was", [_ending(result) for result in results]
    yield "act took", [f"{(result.ended - result.began).total_seconds():.1f} s" for result in results]
    backs = [result.taken_back for result in results]
    yield (
        "evidence to weight 0 in Envoy",
        [f"{back.seconds:.2f} s" if back else "–" for back in backs],
    )
    yield (
        "  of it after the verdict",
        [f"{back.write_seconds * 1000:.0f} ms" if back else "–" for back in backs],
    )
    yield "answers compared, lost", [_compared(result) for result in results]
    yield "requests that met the version", [str(result.met.requests) for result in results]
    yield "  failed", [str(result.met.failed) for result in results]
    yield "  slower than the limit", [_slow(result) for result in results]
    yield "all requests in the act", [str(result.requests) for result in results]
    yield "  failed", [str(result.failed) for result in results]


def _in_order(result: ActResult) -> list[Event]:
    """What the watch saw stays in the order it was seen, although clocks differ by milliseconds."""
    latest = list(accumulate((event.at for event in result.events), max))
    seen = list(zip(latest, result.events, strict=True))
    met = [(event.at, event) for event in _users_events(result)]
    return [event for _, event in sorted([*seen, *met], key=lambda pair: pair[0])]


def _slow(result: ActResult) -> str:
    limit = result.slow_seconds
    return f"{result.met.slow} (> {limit * 1000:.0f} ms)" if math.isfinite(limit) else "–"


def _compared(result: ActResult) -> str:
    metric = result.compared
    return f"{metric.candidate.total}, {metric.candidate.bad}" if metric else "–"


def _ending(result: ActResult) -> Text:
    words = str(result.ending or "not finished")
    if result.ending is Ending.TAKEN_BACK and result.act.shadow:
        words += " in shadow"
    elif result.ending is Ending.TAKEN_BACK and result.metric:
        words += f" on {base_metric(result.metric)}"
    return Text(words, style="bold red" if result.problem else "bold green")


def _users_events(result: ActResult) -> Iterator[Event]:
    """What users met, seen from their side; of no interest for a version that stayed."""
    if result.taken_back is None:
        return
    version, met = result.act.version.name, result.met
    by_metric = {"errors": ("failed", met.first_failed_at), "latency": ("slow", met.first_slow_at)}
    kind, first = by_metric.get(base_metric(result.metric), ("failed", met.first_failed_at))
    if first:
        yield Event(first, f"a user meets the first {kind} answer of {version}", Tone.QUIET)
    if met.last_at:
        yield Event(met.last_at, f"the last answer of {version} reaches a user", Tone.QUIET)
    back = result.taken_back
    yield Event(back.sufficient_at, "the samples stored in Prometheus suffice to decide", Tone.QUIET)
    yield Event(back.acknowledged_at, f"Envoy acknowledges weight 0 for {version}", Tone.GOOD)
