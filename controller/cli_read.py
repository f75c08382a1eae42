"""``agentrollout get``, ``history`` and ``diff``: what is read from a cluster and shown once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import RenderableType

from controller.api.rollout import AgentRollout
from controller.api.status import RolloutStatus
from controller.cli_cluster import Cluster, in_cluster, read_rollout
from controller.cli_values import Output, Where, fail
from controller.core.artifact import revision_name
from controller.display.compare import Version, compare
from controller.display.events import happenings
from controller.display.listing import listing
from controller.display.past import actions_on, versions_of
from controller.display.past import history as history_view
from controller.display.printing import as_json, as_yaml, show, width, without_managed_fields
from controller.errors import ExitCode
from controller.reconcilers.actions import ACTIONS
from controller.reconcilers.observed import REVISIONS, ROLLOUTS
from controller.runtime.resource import RawObject

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

_TIMEOUT_SECONDS = 10.0


def get(names: list[str], where: Where, output: Output, everywhere: bool) -> None:
    """See ``controller.cli_rollouts.get``."""
    if output in {Output.JSON, Output.YAML}:
        found = in_cluster(where, lambda cluster: _objects(cluster, names, everywhere))
        _print(found, output)
        return
    tables, namespace = in_cluster(where, lambda cluster: _tables(cluster, names, everywhere))
    rows = [row for table in tables for row in table.get("rows") or ()]
    if not rows:
        place = (
            "in any namespace"
            if everywhere
            else f"in namespace {namespace}: -n names another, -A looks in all"
        )
        typer.echo(f"there is no AgentRollout {place}", err=True)
        return
    answer = {**tables[0], "rows": rows}
    wide = output is Output.WIDE
    show(listing(answer, wide=wide, namespaces=everywhere, width=width()), uncut=wide)


async def _objects(cluster: Cluster, names: list[str], everywhere: bool) -> RawObject:
    if names:
        found = [await cluster.get(ROLLOUTS, name) for name in names]
    else:
        found = await cluster.all_of(ROLLOUTS, everywhere=everywhere)
    shown = [without_managed_fields(each) for each in found]
    return shown[0] if len(names) == 1 else {"apiVersion": "v1", "kind": "List", "items": shown}


async def _tables(cluster: Cluster, names: list[str], everywhere: bool) -> tuple[list[RawObject], str]:
    """As the API server makes them for `kubectl get`: the columns stand in the CRD."""
    for name in names:
        await cluster.get(ROLLOUTS, name)  # for its sentence when there is none
    paths = [ROLLOUTS.path(cluster.namespace, name) for name in names]
    paths = paths or [ROLLOUTS.path("" if everywhere else cluster.namespace)]
    ask = cluster.transport.request
    return [
        await ask("GET", path, accept=_TABLE, timeout=_TIMEOUT_SECONDS) for path in paths
    ], cluster.namespace


def history(name: str, where: Where, output: Output) -> None:
    """See ``controller.cli_rollouts.history``."""
    past = in_cluster(where, lambda cluster: _past(cluster, name))
    if output in {Output.JSON, Output.YAML}:
        objects = [past.rollout, *past.versions, *past.actions, *past.events]
        items = [without_managed_fields(each) for each in objects]
        _print({"apiVersion": "v1", "kind": "List", "items": items}, output)
        return
    rollout = read_rollout(past.rollout)
    found = happenings(past.events, rollout.metadata.uid)
    wide = output is Output.WIDE
    show(history_view(rollout, past.versions, past.actions, found, datetime.now(UTC), wide=wide))


@dataclass(frozen=True, slots=True)
class _Past:
    rollout: RawObject
    versions: list[RawObject]
    actions: list[RawObject]
    events: list[RawObject]


async def _past(cluster: Cluster, name: str) -> _Past:
    raw = await cluster.get(ROLLOUTS, name)
    revisions, actions, events = await asyncio.gather(
        cluster.all_of(REVISIONS), cluster.all_of(ACTIONS), cluster.events(name)
    )
    return _Past(raw, versions_of(name, revisions), actions_on(name, actions), events)


def diff(first: str, second: str | None, where: Where) -> None:
    """See ``controller.cli_rollouts.diff``."""
    show(in_cluster(where, lambda cluster: _between(cluster, first, second)))


async def _between(cluster: Cluster, first: str, second: str | None) -> RenderableType:
    if second is not None:
        old, new = [await cluster.get(REVISIONS, name) for name in (first, second)]
        return compare(_version(old, ""), _version(new, ""))
    rollout = await cluster.rollout(first)
    versions = {
        each["metadata"]["name"]: each for each in versions_of(first, await cluster.all_of(REVISIONS))
    }
    stable = rollout.status.stable
    if stable is None or stable.revision not in versions:
        fail(
            f"{rollout.metadata.key} has no stable version yet: there is nothing to compare with",
            ExitCode.FAILED,
        )
    name, role = _other(rollout)
    if name not in versions:
        fail(
            f"{rollout.metadata.key} has no candidate: name two of its versions, which `agentrollout history {first}` lists",
            ExitCode.FAILED,
        )
    return compare(_version(versions[stable.revision], "stable"), _version(versions[name], role))


def _other(rollout: AgentRollout) -> tuple[str, str]:
    """What stable is compared with: the candidate or, if there is none, the version that was taken back last."""
    status: RolloutStatus = rollout.status
    if status.candidate:
        return status.candidate.revision, "candidate"
    if status.last_rollback:
        return revision_name(rollout.metadata.name, status.last_rollback.artifact_id), "taken back"
    return "", ""


def _version(revision: RawObject, role: str) -> Version:
    return Version(revision["metadata"]["name"], role, revision["spec"]["agent"])


def _print(found: Any, output: Output) -> None:
    as_json(found) if output is Output.JSON else as_yaml(found)
