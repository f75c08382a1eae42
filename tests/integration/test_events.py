"""Events as people see them, on a real kube-apiserver."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.recorder import EVENTS, EventType, ObjectReference, Recorder
from controller.runtime.resource import Resource
from controller.runtime.transport import KubernetesTransport
from devkit.controlplane import ControlPlane

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


class Recording:
    def __init__(self, transport: KubernetesTransport) -> None:
        self.registry = CollectorRegistry()
        self.recorder = Recorder(
            ResourceClient(transport, EVENTS, field_manager="events-tests"),
            SystemClock(),
            controller="agentrollout.dev/operator",
            instance="operator-0",
            metrics=RuntimeMetrics(self.registry),
        )

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("agentrollout_events_total", {"outcome": outcome}) or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(0.02)


@pytest.fixture
async def recording(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recording]:
    monkeypatch.setattr("controller.runtime.recorder.REWRITE_SECONDS", 0.2)
    transport = await KubernetesTransport.connect(kubeconfig=str(control_plane.kubeconfig))
    recording = Recording(transport)
    task = asyncio.create_task(recording.recorder.run())
    yield recording
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await transport.close()


def _config_map(control_plane: ControlPlane, namespace: str) -> ObjectReference:
    control_plane.kubectl("create", "configmap", "agent", f"--namespace={namespace}")
    raw = json.loads(
        control_plane.kubectl("get", "configmap", "agent", f"--namespace={namespace}", "-o", "json")
    )
    return ObjectReference(CONFIG_MAPS, namespace, "agent", raw["metadata"]["uid"])


def _events(control_plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    listed = control_plane.kubectl("get", "events.v1.events.k8s.io", f"--namespace={namespace}", "-o", "json")
    return list(json.loads(listed)["items"])


async def test_people_find_the_event_where_they_look(
    control_plane: ControlPlane, namespace: str, recording: Recording
) -> None:
    regarding = await asyncio.to_thread(_config_map, control_plane, namespace)
    note = "agent-b81c was taken back at 10 %: errors are 3 × stable's, " + "and so on, " * 100
    recording.recorder.record(
        regarding, event_type=EventType.WARNING, reason="RolledBack", action="RollBack", note=note
    )
    await recording.until(lambda: recording.count("created") == 1)
    described = await asyncio.to_thread(
        control_plane.kubectl, "describe", "configmap", "agent", f"--namespace={namespace}"
    )
    (line,) = [line for line in described.splitlines() if "RolledBack" in line]
    assert line.split()[:2] == ["Warning", "RolledBack"]
    assert "agentrollout.dev/operator" in line
    assert "agent-b81c was taken back at 10 %" in line


async def test_a_repetition_is_one_object_with_a_count(
    control_plane: ControlPlane, namespace: str, recording: Recording
) -> None:
    regarding = await asyncio.to_thread(_config_map, control_plane, namespace)

    def record() -> None:
        recording.recorder.record(
            regarding, event_type=EventType.NORMAL, reason="Promoted", action="Promote", note="it is stable"
        )

    record()
    await recording.until(lambda: recording.count("created") == 1)
    for _ in range(4):
        record()
    await recording.until(lambda: recording.count("updated") == 1)
    (event,) = await asyncio.to_thread(_events, control_plane, namespace)
    assert event["series"]["count"] == 5
    assert event["series"]["lastObservedTime"] > event["eventTime"]


async def test_an_event_that_expired_is_made_anew(
    control_plane: ControlPlane, namespace: str, recording: Recording
) -> None:
    regarding = await asyncio.to_thread(_config_map, control_plane, namespace)
    for expected in ("created", "updated"):
        recording.recorder.record(
            regarding, event_type=EventType.NORMAL, reason="Promoted", action="Promote", note="it is stable"
        )
        await recording.until(partial(lambda outcome: recording.count(outcome) == 1, expected))
        if expected == "created":
            control_plane.kubectl("delete", "events.v1.events.k8s.io", "--all", f"--namespace={namespace}")
    (event,) = await asyncio.to_thread(_events, control_plane, namespace)
    assert event["series"]["count"] == 2


async def test_an_event_that_the_api_refuses_does_not_hold_up_the_next(
    control_plane: ControlPlane, namespace: str, recording: Recording
) -> None:
    regarding = await asyncio.to_thread(_config_map, control_plane, namespace)
    nowhere = ObjectReference(CONFIG_MAPS, "there-is-no-such-namespace", "agent", "uid")
    for about in (nowhere, regarding):
        recording.recorder.record(
            about, event_type=EventType.NORMAL, reason="Promoted", action="Promote", note="it is stable"
        )
    await recording.until(lambda: recording.count("created") == 1)
    assert recording.count("refused") == 1
