"""``agentrollout get``: one line a rollout, from the columns of the CRD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from controller.display.words import coloured

_LEFT_OUT = ("Age", "Stage", "Stable")
"""In a terminal that is too narrow for all columns, in this order."""


def listing(answer: dict[str, Any], *, wide: bool, namespaces: bool, width: int | None) -> Table:
    """The table that the API server makes of objects, in a terminal's colours.

    Args:
        answer: A ``Table`` of ``meta.k8s.io``.
        wide: With the columns of lower priority.
        namespaces: With a column for the namespace.
        width: Columns of the terminal; None if it is none, and nothing is left out.
    """
    names = [each["name"] for each in answer["columnDefinitions"]]
    shown = [i for i, each in enumerate(answer["columnDefinitions"]) if wide or not each.get("priority")]
    rows = [_row(each, names, wide) for each in answer.get("rows") or ()]
    spaces = [str(row["object"]["metadata"].get("namespace", "")) for row in answer.get("rows") or ()]
    for name in _LEFT_OUT:
        if wide or width is None or _width(names, rows, shown, spaces if namespaces else []) <= width:
            break
        shown = [i for i in shown if names[i] != name]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in [*(["Namespace"] if namespaces else []), *(names[i] for i in shown)]:
        table.add_column(name.upper(), no_wrap=True)
    for space, row in zip(spaces, rows, strict=True):
        table.add_row(*([space] if namespaces else []), *(row[i] for i in shown))
    return table


def _row(row: dict[str, Any], names: Sequence[str], wide: bool) -> list[Text]:
    """The cells; of an AgentRevision's name the rollout's is known, and left out unless there is room."""
    own = f"{row['object']['metadata']['name']}-"
    cells = ["" if cell is None else str(cell) for cell in row["cells"]]
    return [
        coloured(cell.removeprefix(own) if name in {"Stable", "Candidate"} and not wide else cell)
        for name, cell in zip(names, cells, strict=True)
    ]


def _width(
    names: Sequence[str], rows: Sequence[Sequence[Text]], shown: Sequence[int], spaces: Sequence[str]
) -> int:
    widths = [max(len(names[i]), *(len(row[i]) for row in rows), 0) + 2 for i in shown]
    return sum(widths) + (max(map(len, ["Namespace", *spaces])) + 2 if spaces else 0) - 2
