"""Prompts from ConfigMaps and Secrets, with the real operator on a real API server."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from controller.api.reasons import ConditionType, Reason, State
from controller.api.rollout import AgentRollout
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK
from tests.integration.delivery_lab import DeliveryLab, manifest

REF = {"name": "prompts", "key": "v1"}


def agent(url: str, prompts: dict[str, str] | None = None, **prompts_from: Any) -> dict[str, Any]:
    return {"code": {"url": url}, "prompts": prompts or {}, "promptsFrom": prompts_from}


async def put(lab: DeliveryLab, kind: str, **data: str) -> None:
    """As people do it: kubectl keeps a copy of everything in an annotation."""
    field = "data" if kind == "ConfigMap" else "stringData"
    raw = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "prompts", "namespace": lab.namespace}}
    await lab.apply({**raw, field: data})


def says(kind: ConditionType, status: str, reason: Reason) -> Callable[[AgentRollout], bool]:
    def holds(rollout: AgentRollout) -> bool:
        condition = rollout.status.condition(kind)
        return condition is not None and (condition.status, condition.reason) == (status, reason)

    return holds


def message(rollout: AgentRollout, kind: ConditionType) -> str:
    condition = rollout.status.condition(kind)
    assert condition is not None
    return condition.message


async def http(lab: DeliveryLab, path: str) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{LOOPBACK}:{lab.http_port}/{path}") as answer,
    ):
        return await answer.text()


async def test_a_prompt_from_a_config_map_is_read_once_and_its_changes_are_reported(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        url = lab.agent("old").url
        await put(lab, "Secret", v1="You help.")
        keyless = agent(url, system={"secretKeyRef": REF})
        await lab.apply(manifest(namespace, url, name="keyless", host="keyless.example", agent=keyless))
        referring = manifest(namespace, url, agent=agent(url, system={"configMapKeyRef": REF}))
        await lab.apply(referring)
        refused = await lab.until(says(ConditionType.ACCEPTED, "False", Reason.REF_NOT_FOUND))
        assert message(refused, ConditionType.ACCEPTED) == (
            "spec.agent.promptsFrom.system.configMapKeyRef: there is no ConfigMap prompts in namespace "
            f"{namespace}; create it or correct the name"
        )
        await put(lab, "ConfigMap", v0="You rest.")
        await lab.until(lambda r: "has no key v1; it has v0" in message(r, ConditionType.ACCEPTED))
        await put(lab, "ConfigMap", v1="You help.")
        first = await lab.until(lambda r: r.status.state is State.STABLE)
        assert first.status.stable is not None
        served = json.loads(await http(lab, f"artifacts/{first.status.stable.artifact_id}"))
        assert served == {"code": {"url": url}, "prompts": {"system": "You help."}, "dependencies": {}}

        await put(lab, "ConfigMap", v1="You obey.")
        drifted = await lab.until(says(ConditionType.DRIFTED, "True", Reason.REFERENCE_CHANGED))
        assert drifted.status.stable == first.status.stable
        assert drifted.status.candidate is None
        await asyncio.to_thread(lab.operator.stop)
        lab.start_operator()
        await put(lab, "ConfigMap", v1="You help.")
        await lab.until(says(ConditionType.DRIFTED, "False", Reason.UNCHANGED))

        inline = manifest(namespace, url, agent=agent(url, {"system": "You help."}))
        await lab.apply(inline)
        same = await lab.until(lambda r: r.status.resolved == [])
        assert (same.status.state, same.status.stable) == (State.STABLE, first.status.stable)

        await put(lab, "ConfigMap", v2="You help a lot.")
        new = lab.agent("new").url
        source = {"configMapKeyRef": {"name": "prompts", "key": "v2"}}
        await lab.apply(manifest(namespace, new, agent=agent(new, system=source)))
        await lab.until(lambda r: r.status.candidate and r.status.programmed == 100_000)

        refused = await lab.get("keyless")
        assert says(ConditionType.ACCEPTED, "False", Reason.SECRETS_NOT_ALLOWED)(refused)
        assert "--secret-hmac-key-file" in message(refused, ConditionType.ACCEPTED)


async def test_of_a_secret_nothing_but_a_digest_is_found_anywhere(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    key_file, planted = tmp_path / "hmac.key", f"You know {secrets.token_hex(16)}."
    key_file.write_bytes(secrets.token_bytes(32))
    flags = (f"--secret-hmac-key-file={key_file}", "--log-level=debug")
    async with DeliveryLab(control_plane, namespace, tmp_path, flags=flags) as lab:
        await put(lab, "Secret", v1=planted)
        url = lab.agent("old").url
        await lab.apply(manifest(namespace, url, agent=agent(url, system={"secretKeyRef": REF})))
        first = await lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
        assert first.status.stable is not None
        served = json.loads(await http(lab, f"artifacts/{first.status.stable.artifact_id}"))
        assert served["prompts"] == {}
        assert served["promptsFrom"]["system"]["secretKeyRef"] == REF
        assert served["promptsFrom"]["system"]["digest"].startswith("hmac-sha256:")
        await put(lab, "Secret", v1=f"{planted} {planted}")
        await lab.until(says(ConditionType.DRIFTED, "True", Reason.REFERENCE_CHANGED))

        everything = {
            "API": control_plane.kubectl(
                "get", "aro,arev,configmaps,leases,events,events.events.k8s.io", "-A", "-o", "json"
            ),
            "artifact": json.dumps(served),
            "metrics": await http(lab, "metrics"),
            "log": lab.operator.log.read_text(),
            "router": lab.envoy.admin_get("/config_dump").text,
        }
        assert "references_resolved" in everything["log"]
        assert first.status.stable.artifact_id in everything["API"]
        found = {
            place
            for place, text in everything.items()
            for form in (planted, base64.b64encode(planted.encode()).decode())
            if form in text
        }
        assert found == set()
