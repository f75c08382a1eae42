"""The figures as tables."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.decision_costs import Cost
from tests.bench.decision_verdict import Delay, Report


def show_false_rollbacks(report: Report, console: Console) -> None:
    """Good versions that were taken back."""
    if not report.false_rollbacks:
        return
    runs = report.false_rollbacks[0].runs
    rules = list(report.false_rollbacks[0].shares)
    table = _table(
        f"Good versions taken back within an hour, of {runs} each (stated {report.alpha:.0%}, band up to "
        f"{report.bound(runs):.2%}); 2 000 requests/min",
        "rate", "weight", "times", "seed", *rules,
    )  # fmt: skip
    for cell in report.false_rollbacks:
        shares = (f"{cell.shares[rule]:.2%}" for rule in rules)
        table.add_row(f"{cell.rate:.1%}", f"{cell.weight:.1%}", cell.times, str(cell.seed), *shares)
    console.print(table)


def show_clustered(report: Report, console: Console) -> None:
    """The same where conversations fail as a whole."""
    if not report.clustered:
        return
    first = report.clustered[0]
    table = _table(
        f"The same where conversations of 1 to {first.longest} requests fail as a whole, of {first.runs} each",
        "rate", "weight", "seed", *first.shares,
    )  # fmt: skip
    for cell in report.clustered:
        shares = (f"{share:.2%}" for share in cell.shares.values())
        table.add_row(f"{cell.rate:.1%}", f"{cell.weight:.1%}", str(cell.seed), *shares)
    console.print(table)


def show_deliveries(report: Report, console: Console) -> None:
    """Good versions through all stages."""
    table = _table(
        "Good versions through 1, 10, 50, 100 % within 1.5 times the minDurations of 10, 30, 30, 60 min",
        "rule", "rate", "requests/min", "seed", "through", "taken back", "min: p50", "p90", "max", "",
    )  # fmt: skip
    for cell in report.good:
        found, minutes = cell.found, cell.found.minutes
        took = [f"{each:.0f}" for each in (minutes.p50, minutes.p90, minutes.max)] if minutes else ["–"] * 3
        table.add_row(
            cell.rule,
            f"{cell.rate:.1%}",
            f"{cell.per_minute:g}",
            str(cell.seed),
            f"{found.share:.1%}",
            f"{found.taken_back / found.runs:.1%}",
            *took,
            "" if cell.enough else "too little traffic to show it",
        )
    console.print(table)


def show_delays(report: Report, console: Console) -> None:
    """How late bad versions were taken back."""
    if not report.delays:
        return
    rules = list(report.delays[0].rules)
    table = _table(
        "Minutes from the fault until the version is taken back: p50 / p90 (share found); in brackets a rule that takes good "
        "versions back more often than stated",
        "rate", "weight", "fault", "after", "seed", *rules,
    )  # fmt: skip
    for cell in report.delays:
        found = []
        for name, delay in cell.rules.items():
            is_wrong = report.worst_false(name, cell.rate, cell.weight) > report.alpha
            found.append(f"[{_words(delay)}]" if is_wrong else _words(delay))
        table.add_row(
            f"{cell.rate:.1%}",
            f"{cell.weight:.1%}",
            f"×{cell.ratio:g}",
            f"{cell.begins // 4} min",
            str(cell.seed),
            *(each.replace("[", "\\[") for each in found),
        )
    console.print(table)


def _words(delay: Delay) -> str:
    if delay.minutes is None:
        return "–"
    quantiles = " / ".join(f"{each:.4g}" for each in (delay.minutes.p50, delay.minutes.p90))
    return f"{quantiles} ({delay.found:.0%})".replace("inf", "∞")


def show_costs(costs: list[Cost], console: Console) -> None:
    """What an evaluation of a metric computes."""
    table = _table("One evaluation of one metric", "what", "µs")
    for cost in costs:
        table.add_row(cost.what, f"{cost.microseconds:.0f}")
    console.print(table)


def show_shortcomings(found: list[str], console: Console) -> None:
    """Where it falls short."""
    if not found:
        console.print("nothing falls short")
        return
    console.print(f"{len(found)} places fall short:")
    for each in found:
        console.print(f"- {each}", markup=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="left" if column in ("rule", "times", "what", "") else "right")
    return table
