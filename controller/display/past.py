"""``agentrollout history``: the versions of one rollout, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controller.api.rollout import AgentRollout
from controller.api.status import RolloutStatus
from controller.display.events import Happening, events_table
from controller.display.words import age, age_of, short


def versions_of(rollout: str, revisions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The AgentRevisions of one rollout, oldest first."""
    own = [each for each in revisions if each["spec"]["rollout"] == rollout]
    return sorted(own, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))


def actions_on(rollout: str, actions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The RolloutActions about one rollout, oldest first."""
    own = [each for each in actions if each["spec"]["rollout"] == rollout]
    return sorted(own, key=lambda each: (each["metadata"]["creationTimestamp"], each["metadata"]["name"]))


def history(
    rollout: AgentRollout,
    versions: Sequence[dict[str, Any]],
    actions: Sequence[dict[str, Any]],
    events: Sequence[Happening],
    now: datetime,
    *,
    wide: bool,
) -> Group:
    """All that is still known.

    Args:
        rollout: As stored.
        versions: Its AgentRevisions, oldest first.
        actions: RolloutActions about it, oldest first.
        events: What happened, oldest first.
        now: What ages are counted from.
        wide: With the whole artifact IDs.
    """
    parts: list[RenderableType] = [_versions(rollout.status, versions, now, wide)]
    gone = [
        each for each in rollout.status.rolled_back if each not in {v["spec"]["artifactID"] for v in versions}
    ]
    if gone:
        parts.append(Text(f"Also taken back, and not kept any more: {', '.join(map(short, gone))}."))
    back = rollout.status.last_rollback
    if back:
        where = f" in stage {back.stage}" if back.stage else ""
        sentence = (
            f": {short(back.artifact_id)} {age(now - back.at)} ago{where}, {back.reason}: {back.message}"
        )
        parts += [Text(), Text.assemble(("Last taken back", "bold"), sentence)]
    if actions:
        parts += [Text(), _actions(actions, now)]
    if events:
        parts += [Text(), events_table(events, now)]
    return Group(*parts)


def _actions(actions: Sequence[dict[str, Any]], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("AGO", "ACTION", "BY", "ON", "BECAME", "WHY – OUTCOME"):
        table.add_column(name, no_wrap=name not in {"BY", "WHY – OUTCOME"}, overflow="fold")
    for each in actions:
        spec, status = each["spec"], each.get("status") or {}
        message = f" – {status['message']}" if status.get("message") else ""
        cells = (
            spec["action"],
            spec["requestedBy"],
            short(spec["artifactID"]),
            status.get("phase", "Pending"),
        )
        table.add_row(age_of(each["metadata"]["creationTimestamp"], now), *cells, spec["reason"] + message)
    return table


def _versions(status: RolloutStatus, versions: Sequence[dict[str, Any]], now: datetime, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("VERSION", "AGE", "BECAME", "MODEL", "CODE", *(["ARTIFACT"] if wide else [])):
        table.add_column(name, no_wrap=name != "CODE", overflow="fold")
    for each in versions:
        spec = each["spec"]
        cells = [
            each["metadata"]["name"],
            age_of(each["metadata"]["creationTimestamp"], now),
            ", ".join(_became(status, spec["artifactID"])) or "replaced",
            str((spec["agent"].get("model") or {}).get("name", "–")),
            _code(spec["agent"]["code"]),
        ]
        table.add_row(*cells, *([spec["artifactID"]] if wide else []))
    return table


def _code(code: dict[str, Any]) -> str:
    service = code.get("service")
    return (
        f"{service['name']}:{service['port']}"
        if service
        else str(code.get("url") or code.get("image") or "–")
    )


def _became(status: RolloutStatus, artifact: str) -> Iterator[str]:
    if status.stable and status.stable.artifact_id == artifact:
        yield "stable"
    if status.candidate and status.candidate.artifact_id == artifact:
        yield f"candidate, attempt {status.candidate.attempt}"
    if artifact in status.rolled_back:
        yield "taken back"
