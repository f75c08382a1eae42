"""``agentrollout status``: all that matters of one rollout now, on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controller.api.quantities import format_percent
from controller.api.reasons import ConditionType, Verdict
from controller.api.rollout import AgentRollout
from controller.api.status import Condition, RolloutStatus, VersionRef
from controller.core.stages import title
from controller.display.events import Happening, events_table
from controller.display.words import age, coloured, short
from controller.explanation.tables import limits, sentences, verdicts

EVENTS_SHOWN = 6

_EXPECTED = {
    (ConditionType.ACCEPTED, "True"),
    (ConditionType.PROGRAMMED, "True"),
    (ConditionType.HEALTHY, "True"),
    (ConditionType.HEALTHY, "Unknown"),  # on its way
    (ConditionType.DRIFTED, "False"),
    (ConditionType.WITHIN_LIMITS, "True"),
    (ConditionType.PROGRESSING, "True"),
    (ConditionType.PROGRESSING, "False"),
    (ConditionType.KILLED, "True"),
    (ConditionType.KILLED, "False"),
}
"""Conditions whose message is not worth a line; of Progressing and Killed it is among the first."""


def detail(rollout: AgentRollout, events: Sequence[Happening], now: datetime) -> Group:
    """The whole screen.

    Args:
        rollout: As stored.
        events: What happened, oldest first.
        now: What ages are counted from.
    """
    status = rollout.status
    parts: list[RenderableType] = [_headline(rollout), _facts(status, now)]
    if status.analysis:
        evaluated = status.evidence.evaluated_at if status.evidence else None
        parts += [Text(), verdicts(status.analysis, evaluated)]
        said = status.condition(ConditionType.PROGRESSING)
        telling = [each for each in status.analysis if each.verdict is not Verdict.PASS or each.reason]
        parts += sentences([each for each in telling if not said or each.message not in said.message])
    parts += limits(status.guardrails)
    if status.conditions:
        parts += [Text(), _conditions(status.conditions, now)]
    if events:
        parts += [Text(), events_table(events[-EVENTS_SHOWN:], now)]
    return Group(*parts)


def in_a_line(rollout: AgentRollout) -> str:
    """Where the rollout is, for a log: changes when something of note does."""
    status = rollout.status
    where = f"stage {status.stage.title}" if status.stage else "no stage"
    verdict = f", {status.verdict}" if status.verdict else ""
    said = status.condition(ConditionType.PROGRESSING)
    return (
        f"{rollout.metadata.key} {status.state}: {where}, weight {format_percent(status.weight)}{verdict}"
        + (f", {said.reason}" if said else "")
    )


def _headline(rollout: AgentRollout) -> Text:
    status = rollout.status
    text = Text.assemble((rollout.metadata.key, "bold"), "  ", coloured(status.state))
    if status.verdict:
        text.append("  ").append_text(coloured(status.verdict))
    if rollout.metadata.deletion_timestamp:
        text.append("  being deleted", "yellow")
    if rollout.metadata.generation > status.observed_generation:
        text.append("  the operator has not seen the last change yet", "yellow")
    return text


def _facts(status: RolloutStatus, now: datetime) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, value in _labelled(status, now):
        table.add_row(label, value)
    return table


def _labelled(status: RolloutStatus, now: datetime) -> Iterator[tuple[str, RenderableType]]:
    yield "stable", _version(status.stable)
    if status.candidate:
        attempt = f", attempt {status.candidate.attempt}" if status.candidate.attempt > 1 else ""
        yield "candidate", _version(status.candidate) + attempt
    if status.frozen and status.candidate:
        yield "stages", _track(status)
    if status.stage and status.frozen:
        wanted = status.frozen.stages[status.stage.index]
        yield (
            "stage",
            f"{status.stage.title} for {age(now - status.stage.entered_at)} of at least "
            f"{age(wanted.min_duration)}, {status.stage.requests} of at least {wanted.min_requests} requests",
        )
    if status.candidate:
        yield "weight", _weight(status)
    if status.killed:
        killed = status.condition(ConditionType.KILLED)
        sentence = killed.message if killed else status.killed.message
        yield "killed", Text(f"for {age(now - status.killed.since)}: {sentence}", "bold red")
    said = status.condition(ConditionType.PROGRESSING)
    if said and said.message:
        yield "now", f"{said.reason}: {said.message}"
    if status.last_rollback:
        back = status.last_rollback
        where = f" in stage {back.stage}" if back.stage else ""
        yield (
            "last taken back",
            f"{short(back.artifact_id)} {age(now - back.at)} ago{where}, {back.reason}: {back.message}",
        )


def _version(version: VersionRef | None) -> str:
    return version.revision if version else "none yet"


def _weight(status: RolloutStatus) -> str:
    wanted = format_percent(status.weight)
    if status.programmed is None:
        return f"{wanted} is wanted; no router said yet what it serves"
    if status.programmed == status.weight:
        return f"{wanted}, as the routers serve it"
    return f"{wanted} is wanted, the routers serve {format_percent(status.programmed)}"


def _track(status: RolloutStatus) -> Text:
    """All stages, with where the candidate is."""
    at = status.stage.index if status.stage else -1
    text = Text()
    for number, stage in enumerate(status.frozen.stages if status.frozen else ()):
        mark, style = ("✓", "green") if number < at else ("●", "bold cyan") if number == at else ("·", "dim")
        text.append(f"{mark} {title(stage)}", style).append("   ")
    text.rstrip()
    return text


def _conditions(conditions: Sequence[Condition], now: datetime) -> Group:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("CONDITION", "STATUS", "REASON", "SINCE"):
        table.add_column(name, no_wrap=True)
    for each in conditions:
        unexpected = (each.type, each.status) not in _EXPECTED
        style = "yellow" if unexpected else ""
        table.add_row(each.type, Text(each.status, style), each.reason, age(now - each.last_transition_time))
    told = [
        Text.assemble((each.type, "bold"), f": {each.message}")
        for each in conditions
        if (each.type, each.status) not in _EXPECTED and each.message
    ]
    return Group(table, *told)
