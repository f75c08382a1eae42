"""The chart's rights are what the operator uses: all of it, and nothing else.

The API server asks a webhook before RBAC. That shows every question it has about the operator's account, also those of a
server-side apply that creates something and of owner references, which no audit log has.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp

from controller.runtime.errors import NotFound
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK, free_port
from tests.bench.world import CRDS, NAMESPACE
from tests.integration.delivery_lab import Raw
from tests.integration.service_lab import ServiceLab
from tests.integration.test_references import put
from tests.rights import chart_rights

Right = tuple[str, str, str]
"""Group, resource with its subresource, verb."""

NOT_HERE: set[Right] = {
    # The reports of replicas that have been gone for ten minutes.
    ("coordination.k8s.io", "leases", "delete"),
    # After somebody else wrote an action at the same moment.
    ("agentrollout.dev", "rolloutactions", "get"),
    # After two replicas wrote the leader's Lease at the same moment.
    ("coordination.k8s.io", "leases", "get"),
}
"""What a test cannot wait for; unit tests have it."""

SHORT_CUTS: set[Right] = {("*", "*/finalizers", "update")}
"""The API server asks first whether somebody may do it everywhere; nobody is granted that."""


class Questions:
    """An authorizer without an opinion that remembers what it was asked about service accounts."""

    def __init__(self) -> None:
        self.asked: set[Right] = set()
        questions = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["content-length"])))
                questions.note(review["spec"])
                answer = json.dumps({**review, "status": {"allowed": False}}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as in the base class
                """Nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def note(self, spec: Raw) -> None:
        about = spec.get("resourceAttributes")
        if about and spec["user"].startswith("system:serviceaccount:"):
            resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
            self.asked.add((about.get("group", ""), resource, about["verb"]))

    @contextmanager
    def answering(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def granted(objects: Iterable[Raw]) -> set[Right]:
    return {
        (group, resource, verb)
        for found in objects
        for rule in found.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


async def test_the_operator_asks_for_every_right_that_the_chart_grants_and_for_no_other(
    tmp_path: Path,
) -> None:
    questions = Questions()
    # Before Kubernetes 1.34 what is followed is listed first.
    with (
        questions.answering(),
        ControlPlane(authorizer=questions.url, feature_gates="WatchList=false") as control_plane,
    ):
        control_plane.kubectl("apply", "--server-side", f"--filename={CRDS}")
        control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        control_plane.kubectl("create", "namespace", NAMESPACE)
        await everything_that_an_operator_does(control_plane, tmp_path)
    assert questions.asked - SHORT_CUTS == granted(chart_rights(NAMESPACE, secrets=True)) - NOT_HERE


async def everything_that_an_operator_does(control_plane: ControlPlane, directory: Path) -> None:
    key = directory / "hmac"
    key.write_bytes(secrets.token_bytes(32))
    flags = [f"--secret-hmac-key-file={key}"]
    xds_port = free_port()
    lab = ServiceLab(control_plane, NAMESPACE, directory, flags=flags, replicas=2, xds_port=xds_port)
    # The router is with the replica that does not lead, which has to report it.
    lab.replicas[1] = replace(lab.replicas[1], xds_port=xds_port)
    lab.use_prometheus(lab.prometheus.url)
    async with lab:
        await stable(lab)
        await candidate_and_back(lab)
        await artifact(lab)
        await action(lab)
        await lab.rollouts.delete(f"{NAMESPACE}/agent")
        await until_gone(lab)


async def stable(lab: ServiceLab) -> None:
    """A version behind a Service, with prompts from a ConfigMap and a Secret, and known images."""
    await put(lab, "ConfigMap", v1="You help.")
    await put(lab, "Secret", v1="You are discreet.")
    await lab.service("v1", selects=True)
    pod = await lab.pod("v1")
    await lab.runs("v1", pod, f"sha256:{'1' * 64}")
    await lab.endpoints("v1", pod)
    await lab.apply(wanted(lab, "first"))
    await lab.until(lambda r: r.status.stable is not None and r.status.stable.images)


async def candidate_and_back(lab: ServiceLab) -> None:
    """A candidate that is given up; its revision is one too many."""
    await lab.apply(wanted(lab, "second"))
    await lab.until(lambda r: r.status.candidate is not None)
    await lab.apply(wanted(lab, "first"))
    await lab.until(lambda r: r.status.candidate is None)


async def artifact(lab: ServiceLab) -> None:
    """Served to agents by the operator."""
    rollout = await lab.get()
    assert rollout.status.stable
    url = f"http://{LOOPBACK}:{lab.http_port}/artifacts/{rollout.status.stable.artifact_id}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200


async def action(lab: ServiceLab) -> None:
    """Asked for by a person, decided, and one more than is kept."""
    rollout = await lab.get()
    assert rollout.status.stable
    spec = {
        "rollout": "agent",
        "artifactID": rollout.status.stable.artifact_id,
        "action": "Pause",
        "reason": "For a test.",
        "requestedBy": "admin",
    }
    metadata = {"name": "pause", "namespace": NAMESPACE}
    await lab.apply(
        {
            "apiVersion": "agentrollout.dev/v1alpha1",
            "kind": "RolloutAction",
            "metadata": metadata,
            "spec": spec,
        }
    )
    where = (f"--namespace={NAMESPACE}", "--for=delete", "--timeout=30s")
    await asyncio.to_thread(lab.control_plane.kubectl, "wait", "rolloutaction/pause", *where)


async def until_gone(lab: ServiceLab) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await lab.get()
            except NotFound:
                return
            await asyncio.sleep(0.05)


def wanted(lab: ServiceLab, prompt: str) -> Raw:
    manifest: dict[str, Any] = lab.manifest(
        "v1", delivery="Header", revisionHistoryLimit=0, actionHistoryLimit=0
    )
    manifest["spec"]["agent"]["prompts"] = {"system": prompt}
    manifest["spec"]["agent"]["promptsFrom"] = {
        "public": {"configMapKeyRef": {"name": "prompts", "key": "v1"}},
        "private": {"secretKeyRef": {"name": "prompts", "key": "v1"}},
    }
    return manifest
