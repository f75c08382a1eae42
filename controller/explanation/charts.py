"""The e-values of a candidate over time as a plot: in the terminal, and in a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.text import Text

from controller.explanation.timeline import Timeline

FORMATS = (".svg", ".png")

_LOWEST = 1e-3
"""Where the axis ends: an e-value below it says no more."""

_COLORS = ("red", "blue", "green", "magenta", "cyan", "orange")
_TICKS = 5


class ChartError(Exception):
    """The file cannot be written; the message says what to do."""


def in_terminal(found: Timeline, width: int, height: int = 16) -> Text:
    """E-values on a logarithmic axis, the threshold as a line across, the beginning of each stage as a line down."""
    import plotext  # noqa: PLC0415  the operator, which shares this program, has no use for it

    plotext.clear_figure()
    plotext.plot_size(width, height)
    plotext.theme("clear")
    highest = found.threshold
    for name, color in zip(found.metrics, _repeated(len(found.metrics)), strict=True):
        times, values = _line(found, name)
        highest = max(highest, *values)
        plotext.plot(times, [math.log10(value) for value in values], label=name, color=color)
    if found.threshold:
        plotext.hline(math.log10(found.threshold))
    for _, began in found.stages[1:]:
        plotext.vline(began.timestamp())
    plotext.ylim(math.log10(_lowest(found)), math.log10(max(highest, 10)) + 0.3)
    powers = range(math.floor(math.log10(_lowest(found))), math.ceil(math.log10(max(highest, 10))) + 1)
    plotext.yticks(list(powers), [f"1e{power}" if abs(power) > 3 else f"{10.0**power:g}" for power in powers])
    ticks = _ticks(found)
    plotext.xticks([time.timestamp() for time in ticks], [f"{time:%H:%M:%S}" for time in ticks])
    plotext.title(f"e-values; a metric fails by itself at {found.threshold:g}")
    return Text.from_ansi(plotext.build())


def to_file(found: Timeline, path: Path, title: str) -> None:
    """The same plot as SVG or PNG, by the file's ending, with the rates of both versions below.

    Raises:
        ChartError: The ending is another one, matplotlib is not installed, or the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ChartError(f"--plot: {path} ends with neither {' nor '.join(FORMATS)}")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  an extra, and slow to import
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ChartError("--plot needs matplotlib: pip install 'agentrollout[plot]'") from error
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    evidence, rates = figure.subplots(2, 1, sharex=True)
    for name, color in zip(found.metrics, _repeated(len(found.metrics)), strict=True):
        times, values = _line(found, name)
        instants = [datetime.fromtimestamp(time, found.points[0].at.tzinfo) for time in times]
        evidence.plot(instants, values, drawstyle="steps-post", label=name, color=f"tab:{color}")
        for version, style in (("candidate", "-"), ("baseline", ":")):
            label = f"{name}, {version}"
            rates.plot(*_rates(found, name, version), style, label=label, color=f"tab:{color}")
    if found.threshold:
        evidence.axhline(found.threshold, color="black", linewidth=1)
    for stage, began in found.stages:
        for axes in (evidence, rates):
            axes.axvline(began, color="gray", linewidth=0.5)
        evidence.annotate(stage, (began, 1), xycoords=("data", "axes fraction"), fontsize=8, va="bottom")
    evidence.set(yscale="log", ylabel="e-value", ylim=(_lowest(found), None))
    figure.suptitle(f"{title}: a metric fails by itself at an e-value of {found.threshold:g}")
    rates.set(ylabel="bad of all, % in the stage so far", ylim=(0, None))
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    rates.xaxis.set_major_locator(locator)
    rates.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    for axes in (evidence, rates):
        axes.legend(fontsize=8, loc="upper left")
    try:
        figure.savefig(path)
    except OSError as error:
        raise ChartError(f"--plot: {path}: {error.strerror}") from error


def _line(found: Timeline, name: str) -> tuple[list[float], list[float]]:
    known = [
        (point.at.timestamp(), point.metrics[name].e_value) for point in found.points if name in point.metrics
    ]
    return [time for time, _ in known], [max(value, _LOWEST) for _, value in known]


def _rates(found: Timeline, name: str, version: str) -> tuple[list[datetime], list[float]]:
    """In percent, where there were requests."""
    known = [
        (point.at, counts)
        for point in found.points
        if name in point.metrics and (counts := getattr(point.metrics[name], version)).total
    ]
    return [at for at, _ in known], [100 * counts.bad / counts.total for _, counts in known]


def _lowest(found: Timeline) -> float:
    values = [metric.e_value for point in found.points for metric in point.metrics.values()]
    return max(min([0.1, *values]), _LOWEST)


def _ticks(found: Timeline) -> Sequence[datetime]:
    first, last = found.points[0].at, found.points[-1].at
    return [first + (last - first) * number / (_TICKS - 1) for number in range(_TICKS)]


def _repeated(count: int) -> list[str]:
    return [_COLORS[number % len(_COLORS)] for number in range(count)]
