"""Objects that were stored before a stricter schema, among others that are fine, from the operator's start on.

`make test-malformed` runs it with a thousand of each.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from controller.api.reasons import ConditionType
from controller.api.rollout import AgentRollout
from controller.runtime.client import ResourceClient
from controller.runtime.errors import Invalid
from controller.runtime.recorder import EVENTS
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK
from tests.integration.delivery_lab import DeliveryLab, Raw, manifest

COUNT = int(os.environ.get("MALFORMED_COUNT", "40"))
NAMESPACE = "default"
CRDS = Path(__file__).parents[2] / "crds"

UNSTORABLE = "spec.agent as text"
"""No rule about agents can be asked on it, so the API server refuses every write: only an event can say why."""

Spoil = Callable[[Raw], Any]
SPOILED: tuple[tuple[str, Spoil], ...] = (
    ("spec.traffic.envoy.hosts", lambda spec: spec["traffic"]["envoy"].update(hosts=[])),
    ("spec.traffic", lambda spec: spec.pop("traffic")),
    ("spec.agent", lambda spec: spec.pop("agent")),
    (UNSTORABLE, lambda spec: spec.update(agent="v1")),
    ("spec.agent.code", lambda spec: spec["agent"]["code"].update(image="registry.example/agent:v1")),
    ("spec.agent.code.url", lambda spec: spec["agent"]["code"].update(url="ftp://v1")),
    ("spec.stages[0].weight", lambda spec: spec["stages"][0].update(weight="150%")),
    ("spec.stages", lambda spec: spec["stages"].reverse()),
    ("spec.analysis.interval", lambda spec: spec["analysis"].update(interval="soon")),
    ("spec.analysis.interval", lambda spec: spec["analysis"].update(interval="0s")),
    ("spec.revisionHistoryLimit", lambda spec: spec.update(revisionHistoryLimit=-3)),
)


@pytest.fixture
def own_control_plane() -> Iterator[ControlPlane]:
    """One whose CRDs may be weakened without harm to other tests."""
    with ControlPlane() as control_plane:
        control_plane.kubectl("apply", "-f", str(CRDS / "agentrollout.dev_agentrevisions.yaml"))
        control_plane.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(_without_rules()))
        control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        yield control_plane


def _without_rules() -> Raw:
    crd: Raw = yaml.safe_load((CRDS / "agentrollout.dev_agentrollouts.yaml").read_text())
    for version in crd["spec"]["versions"]:
        version["schema"] = {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        }
    return crd


def _field(number: int) -> str:
    """What is wrong with a bad one."""
    return SPOILED[number % len(SPOILED)][0]


def _good(number: int, url: str) -> Raw:
    return manifest(NAMESPACE, url, name=f"good-{number}", host=f"good-{number}.example")


def _bad(number: int, url: str) -> Raw:
    wanted = copy.deepcopy(manifest(NAMESPACE, url, name=f"bad-{number}", host=f"bad-{number}.example"))
    SPOILED[number % len(SPOILED)][1](wanted["spec"])
    return wanted


async def test_the_good_ones_are_served_and_the_bad_ones_say_why(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    lab = DeliveryLab(own_control_plane, NAMESPACE, tmp_path)
    url = lab.agent("agent").url
    async with lab:
        lab.operator.stop()
        await _store(lab.rollouts, [make(number, url) for number in range(COUNT) for make in (_good, _bad)])
        await asyncio.to_thread(
            own_control_plane.kubectl, "apply", "--server-side", "--force-conflicts", "-f", str(CRDS)
        )
        await _until_refused(lab.rollouts, _bad(1, url))
        await asyncio.to_thread(lab.start_operator)

        await _until(lambda: _all_told(lab.rollouts))
        await _all_served(lab.user_port)
        await _until(lambda: _all_have_events(lab))
        unreadable = sum(_field(number).startswith("spec.traffic") for number in range(COUNT))
        assert (
            f'agentrollout_store_invalid_objects{{resource="agentrollouts.agentrollout.dev"}} {unreadable}.0'
            in (await _metrics(lab.http_port))
        )

        await lab.apply(manifest(NAMESPACE, url, name="bad-0", host="bad-0.example"))
        await lab.until(lambda rollout: rollout.status.state == "Stable", name="bad-0")


async def _store(rollouts: ResourceClient, wanted: list[Raw]) -> None:
    slots = asyncio.Semaphore(8)

    async def one(raw: Raw) -> None:
        async with slots:
            await rollouts.create(raw)

    await asyncio.gather(*(one(raw) for raw in wanted))


async def _until_refused(rollouts: ResourceClient, bad: Raw) -> None:
    """The stricter schema is in force."""

    async def refused() -> bool:
        bad["metadata"]["name"] = "late"
        try:
            await rollouts.create(bad)
        except Invalid:
            return True
        await rollouts.delete(f"{NAMESPACE}/late")
        return False

    await _until(refused)


async def _all(client: ResourceClient) -> list[Raw]:
    page = await client.list_page(limit=200)
    found = list(page.items)
    while page.continue_token:
        page = await client.list_page(limit=200, continue_token=page.continue_token)
        found += page.items
    return found


async def _all_told(rollouts: ResourceClient) -> bool:
    stored = {raw["metadata"]["name"]: raw for raw in await _all(rollouts)}
    for number in range(COUNT):
        good, bad = stored[f"good-{number}"], stored[f"bad-{number}"]
        status = AgentRollout.model_validate(good).status
        programmed = status.condition(ConditionType.PROGRAMMED)
        if status.state != "Stable" or programmed is None or programmed.status != "True":
            return False
        if _field(number) == UNSTORABLE:
            continue
        said = {c["type"]: c for c in (bad.get("status") or {}).get("conditions") or ()}.get("Accepted")
        if said is None:
            return False
        assert (said["status"], said["reason"]) == ("False", "Invalid"), bad
        assert said["message"].startswith(_field(number)), bad
    return True


async def _all_served(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        for number in range(COUNT):
            host = {"host": f"good-{number}.example", "x-session-id": "one"}
            async with session.get(f"http://{LOOPBACK}:{port}/", headers=host) as answer:
                assert (answer.status, await answer.text()) == (200, "agent")


async def _all_have_events(lab: DeliveryLab) -> bool:
    about = {
        event["regarding"]["name"]
        for event in await _all(ResourceClient(lab._transport, EVENTS, field_manager="tests"))
        if (event["type"], event["reason"]) == ("Warning", "Invalid")
    }
    return about == {f"bad-{number}" for number in range(COUNT)}


async def _metrics(port: int) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{port}/metrics") as answer,
    ):
        return await answer.text()


async def _until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60 + COUNT / 4):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.2 + COUNT / 500)
