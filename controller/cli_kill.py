"""``agentrollout kill`` and ``release``: the switch that every replica of the operator watches."""

from __future__ import annotations

from typing import Any

import typer

from controller.api.action import ActionName
from controller.cli_act import act
from controller.cli_cluster import Cluster, in_cluster
from controller.cli_values import Where, fail
from controller.errors import ExitCode
from controller.reconcilers.observed import ROLLOUTS
from controller.reconcilers.sources import CONFIG_MAPS
from controller.reconcilers.switch_maps import SWITCH_LABEL, Reach
from controller.runtime.client import ResourceClient
from controller.runtime.resource import RawObject

NAME = "agentrollout-kill"

WAIT_SECONDS = 30.0

SEEN_SECONDS = 3.0
"""For the operators to see that a switch is off. They need not write that down by itself."""


def kill(name: str, where: Where) -> None:
    """See ``controller.cli_switches.kill``."""
    in_cluster(where, lambda cluster: _kill(cluster, name))


async def _kill(cluster: Cluster, name: str) -> None:
    await cluster.get(ROLLOUTS, name)  # a name that is none would kill nobody
    await _turn(cluster, name, "true")
    typer.echo(f"the kill switch of {cluster.namespace}/{name} is on: ConfigMap {NAME}, key {name}")
    rollout = await cluster.until(ROLLOUTS, name, _is_killed, WAIT_SECONDS)
    if rollout is None:
        fail(
            f"the operators have not said within {WAIT_SECONDS:g} s that the routers serve stable alone. The switch stays on. "
            "If they are dead: agentrollout kill --break-glass",
            ExitCode.FAILED,
        )
    typer.echo(f"the routers serve stable alone. {_killed(rollout).get('message', '')}")


def release(name: str, reason: str, where: Where) -> None:
    """See ``controller.cli_switches.release``."""
    in_cluster(where, lambda cluster: _release(cluster, name, reason))


async def _release(cluster: Cluster, name: str, reason: str) -> None:
    before = await cluster.get(ROLLOUTS, name)
    await _turn(cluster, name, "false")
    typer.echo(f"the kill switch of {cluster.namespace}/{name} is off: ConfigMap {NAME}, key {name}")
    if not _status(before).get("killed"):
        typer.echo("it was not killed, so there is nothing to resume")
        return
    # To resume before the operators have seen that it is off would be refused.
    said = _killed(before).get("message")
    after = await cluster.until(
        ROLLOUTS, name, lambda each: _killed(each).get("message") != said, SEEN_SECONDS
    )
    if after is not None and not _status(after).get("killed"):
        typer.echo(str(_killed(after).get("message", "it is released")))
        return
    await act(cluster, ActionName.RESUME, name, reason)


async def _turn(cluster: Cluster, name: str, value: str) -> None:
    """Own the one key: what another command has set for another rollout is that one's."""
    manager = f"{NAME}.{name}"
    client = ResourceClient(
        cluster.transport, CONFIG_MAPS, field_manager=manager, namespace=cluster.namespace
    )
    metadata = {"namespace": cluster.namespace, "name": NAME, "labels": {SWITCH_LABEL: Reach.ROLLOUTS.value}}
    await client.apply({"metadata": metadata, "data": {name: value}}, force=True)


def _is_killed(rollout: RawObject) -> bool:
    """Whether the operators say so, and that the routers have it so."""
    programmed = _condition(rollout, "Programmed")
    return bool(
        _status(rollout).get("killed")
        and not _status(rollout).get("candidate")
        and programmed.get("status") == "True"
    )


def _killed(rollout: RawObject) -> dict[str, Any]:
    return _condition(rollout, "Killed")


def _status(rollout: RawObject) -> dict[str, Any]:
    return rollout.get("status") or {}


def _condition(rollout: RawObject, kind: str) -> dict[str, Any]:
    return next((each for each in _status(rollout).get("conditions") or () if each["type"] == kind), {})
