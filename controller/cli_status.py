"""``agentrollout status``, once or as long as one looks at it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from controller.api.rollout import AgentRollout
from controller.cli_cluster import Cluster, in_a_sentence, in_cluster, read_rollout
from controller.cli_values import Output, Where
from controller.display.detail import detail, in_a_line
from controller.display.events import Happening, happenings
from controller.display.printing import as_json, as_yaml, show, terminal, without_managed_fields
from controller.display.screen import Screen
from controller.reconcilers.observed import ROLLOUTS
from controller.runtime.errors import NotFound, TooManyRequests, Unavailable

_TICK_SECONDS = 1.0
"""Ages go on."""

_READ_SECONDS = 5.0
"""Events come without a change of the rollout, and a watch may be lost."""

_WATCH_SECONDS = 300.0


def run(name: str, where: Where, watch: bool, output: Output) -> None:
    """See ``controller.cli_rollouts.status``."""
    if output in {Output.JSON, Output.YAML}:
        raw = in_cluster(where, lambda cluster: cluster.get(ROLLOUTS, name))
        (as_json if output is Output.JSON else as_yaml)(without_managed_fields(raw))
    elif watch:
        with contextlib.suppress(KeyboardInterrupt):
            in_cluster(where, lambda cluster: _watch(cluster, name))
    else:
        rollout, events = in_cluster(where, lambda cluster: _read(cluster, name))
        show(detail(rollout, events, datetime.now(UTC)))


async def _read(cluster: Cluster, name: str) -> tuple[AgentRollout, list[Happening]]:
    rollout = read_rollout(await cluster.get(ROLLOUTS, name))
    return rollout, happenings(await cluster.events(name), rollout.metadata.uid)


async def _watch(cluster: Cluster, name: str) -> None:
    """Show the rollout until somebody stops it, or until it is deleted."""
    console = terminal()
    async with _changes(cluster, name) as changed:
        if not console.is_terminal:
            await _lines(cluster, name, changed)
            return
        with Screen(console, _write) as screen:
            await _pictures(cluster, name, changed, screen)


async def _pictures(cluster: Cluster, name: str, changed: asyncio.Event, screen: Screen) -> None:
    loop = asyncio.get_running_loop()
    rollout, events = await _read(cluster, name)
    problem, read_at = "", loop.time()
    while True:
        now = datetime.now(UTC)
        picture: RenderableType = detail(rollout, events, now)
        screen.show(Group(picture, Text(problem, "bold yellow")) if problem else picture)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), _TICK_SECONDS)
        if not changed.is_set() and loop.time() - read_at < _READ_SECONDS:
            continue
        changed.clear()
        read_at = loop.time()
        try:
            (rollout, events), problem = await _read(cluster, name), ""
        except (Unavailable, TooManyRequests) as error:
            problem = f"As of {now:%H:%M:%S}: {in_a_sentence(error, cluster.transport.host)}"


async def _lines(cluster: Cluster, name: str, changed: asyncio.Event) -> None:
    """For logs: one line whenever something of note changed."""
    last = ""
    while True:
        with contextlib.suppress(Unavailable, TooManyRequests):
            line = in_a_line(await cluster.rollout(name))
            if line != last:
                typer.echo(f"{datetime.now(UTC):%H:%M:%S} {line}")
                last = line
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), _READ_SECONDS)
        changed.clear()


@asynccontextmanager
async def _changes(cluster: Cluster, name: str) -> AsyncIterator[asyncio.Event]:
    """Set whenever the rollout changed; whoever looks at it reads it now and then all the same."""
    changed = asyncio.Event()
    task = asyncio.create_task(_follow(cluster, name, changed))
    try:
        yield changed
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _follow(cluster: Cluster, name: str, changed: asyncio.Event) -> None:
    client = cluster.client(ROLLOUTS, fields=f"metadata.name={name}")
    while True:
        with contextlib.suppress(Unavailable, TooManyRequests, NotFound):
            # From whatever the server has: what is missed in between is read with what comes next.
            page = await client.list_page()
            async for _ in client.watch(
                page.resource_version, server_timeout=_WATCH_SECONDS, inactivity_timeout=_WATCH_SECONDS
            ):
                changed.set()
        await asyncio.sleep(_READ_SECONDS)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
