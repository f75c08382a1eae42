"""The pictures of docs/concepts.md: ``python docs/pictures/draw.py`` writes them anew."""  # noqa: INP001  a script

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

GREEN, BLUE, AMBER, RED, GREY, INK = "#d5efd9", "#d6e6fa", "#fcebc5", "#f9d6d5", "#eceff1", "#263238"
STABLE, SLICES = "#b7d7f5", "#8db9e6"
CANDIDATE = "#f2b04c"

WEIGHTS = (0.01, 0.1, 0.5, 1.0)
SLICE_COUNT = 8


def text(
    x: float, y: float, words: str, *, size: int = 13, bold: bool = False, anchor: str = "middle"
) -> str:
    """One line of words; y is their baseline."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, fill: str, *lines: str) -> str:
    """A box with centred lines, the first of them bold."""
    drawn = [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" stroke="{INK}"/>'
    ]
    first = y + height / 2 + 5 - 8.5 * (len(lines) - 1)
    for index, line in enumerate(lines):
        size = 14 if index == 0 else 12
        drawn.append(text(x + width / 2, first + 17 * index, line, size=size, bold=index == 0))
    return "".join(drawn)


def bar(x: float, y: float, width: float, fill: str, height: float = 26) -> str:
    """A part of a bar, without a frame."""
    return f'<rect x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{height:g}" fill="{fill}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> str:
    """A line with a head at its end."""
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" marker-end="url(#head)"{dash}/>'


def picture(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    """The whole SVG."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="Helvetica, Arial, sans-serif" fill="{INK}">\n<title>{escape(title)}</title>\n'
        '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        f'<path d="M0,0 L9,4 L0,8 z" fill="{INK}"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def version() -> str:
    """What a version is made of, and its way."""
    sources = ("code", "prompts", "model", "dependencies")
    parts = [box(10, 20 + 42 * index, 130, 32, GREY, name) for index, name in enumerate(sources)]
    parts += [arrow(140, 36 + 42 * index, 188, 99) for index in range(len(sources))]
    parts += [
        box(190, 64, 150, 70, BLUE, "artifact ID", "sha256 of it all"),
        arrow(340, 99, 378, 99),
        box(380, 64, 150, 70, AMBER, "candidate", "serves nobody yet"),
        arrow(530, 99, 568, 99),
        box(570, 64, 150, 70, AMBER, "stages", "shadow, internal,", "1 %, 10 %, 50 %, 100 %"),
        arrow(720, 99, 758, 99),
        box(760, 64, 130, 70, GREEN, "stable", "serves all others"),
        arrow(645, 134, 645, 178, dashed=True),
        box(560, 180, 170, 50, RED, "taken back", "never tried again by itself"),
        text(739, 90, "Pass", size=12),
        text(672, 160, "Fail", size=12),
    ]
    return picture(
        900, 245, "A version is one artifact, and goes through stages to stable or is taken back", parts
    )


def cohorts() -> str:
    """Who is where at each weight; a slice is as large as the candidate while all leave stable a half of its users."""
    left, scale, parts = 90, 780, []
    for row, weight in enumerate(WEIGHTS):
        y = 50 + 44 * row
        parts.append(text(80, y + 18, f"{weight:.0%}".replace("%", " %"), bold=True, anchor="end"))
        parts.append(bar(left, y, scale, STABLE))
        parts.append(bar(left, y, scale * weight, CANDIDATE))
        slice_width = min(weight, (1 - weight) / (2 * SLICE_COUNT)) if weight <= 0.5 else 0.0
        for index in range(SLICE_COUNT if slice_width else 0):
            x = left + scale * (1 - slice_width * (index + 1))
            parts.append(bar(x + 1, y, scale * slice_width - 1, SLICES))
    users = (0.005, "Ann"), (0.06, "Bo"), (0.3, "Cy"), (0.97, "Di")
    for place, name in users:
        x = left + scale * place
        parts.append(f'<line x1="{x:g}" y1="40" x2="{x:g}" y2="210" stroke="{INK}" stroke-dasharray="2 3"/>')
        parts.append(text(x, 32, name, size=12))
    for x, fill, words in (
        (90, CANDIDATE, "candidate"),
        (230, STABLE, "stable"),
        (370, SLICES, "stable, control slices"),
    ):
        parts += [bar(x, 228, 16, fill, 16), text(x + 24, 241, words, size=12, anchor="start")]
    return picture(900, 260, "Cohorts are nested: each larger stage holds the smaller ones", parts)


def verdicts() -> str:
    """What follows from each."""
    rows = (
        (GREEN, "Pass", "fresh, enough, no harm", "next stage, once its time is over"),
        (RED, "Fail", "harm is shown", "weight 0, at once"),
        (AMBER, "Insufficient", "too little to say", "the weight is held"),
        (AMBER, "Error", "cannot be read, or is not sound", "the weight is held"),
    )
    parts = [
        box(10, 85, 150, 70, BLUE, "counters", "candidate, baseline,", "control slices"),
        arrow(160, 120, 198, 120),
        box(200, 85, 150, 70, GREY, "harm test", "at every interval,", "one budget"),
    ]
    for index, (fill, name, why, then) in enumerate(rows):
        y = 12 + 56 * index
        parts += [
            arrow(350, 120, 398, y + 22),
            box(400, y, 230, 44, fill, name, why),
            arrow(630, y + 22, 668, y + 22),
            text(676, y + 27, then, anchor="start"),
        ]
    return picture(900, 240, "Four verdicts, and what follows from each", parts)


def rollback() -> str:
    """In which order things happen."""
    parts = [
        box(10, 60, 160, 60, RED, "a trigger", "a failed metric, …"),
        arrow(170, 80, 208, 48),
        arrow(170, 100, 208, 133),
        box(210, 20, 200, 56, AMBER, "1  traffic", "latched, pushed to Envoy"),
        box(210, 105, 200, 56, AMBER, "1  status", "at the same time, retried"),
        arrow(410, 133, 458, 95),
        box(460, 62, 180, 56, BLUE, "2  event, log", "once status is stored"),
        arrow(640, 90, 688, 90),
        box(690, 62, 200, 56, GREY, "3  answers under way", "finished, or cut by choice"),
        text(310, 92, "nothing stands before it", size=12),
    ]
    return picture(900, 180, "The order in which a version is taken back", parts)


def shadow() -> str:
    """Who answers, and who gets the answer."""
    parts = [
        box(10, 90, 90, 50, GREY, "users"),
        arrow(100, 108, 178, 108),
        arrow(178, 124, 102, 124),
        box(180, 80, 110, 70, BLUE, "Envoy"),
        arrow(290, 100, 368, 45),
        arrow(290, 115, 368, 115, dashed=True),
        arrow(290, 130, 368, 185, dashed=True),
        box(370, 18, 150, 52, GREEN, "stable", "users get this answer"),
        box(370, 90, 150, 52, AMBER, "candidate", "answers nobody"),
        box(370, 162, 150, 52, GREEN, "stable again", "answers nobody"),
        arrow(520, 45, 608, 100),
        arrow(520, 115, 608, 115),
        arrow(520, 185, 608, 130),
        box(610, 80, 120, 70, BLUE, "judge", "win, tie, loss"),
        arrow(730, 115, 768, 115),
        box(770, 80, 120, 70, GREY, "Prometheus", "counters as", "evidence"),
    ]
    return picture(900, 230, "In the shadow the candidate answers beside stable, to nobody", parts)


PICTURES = {
    "version.svg": version,
    "cohorts.svg": cohorts,
    "verdicts.svg": verdicts,
    "rollback.svg": rollback,
    "shadow.svg": shadow,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parent / name).write_text(draw())
