"""The chart on real nodes: router and operator pods, agents that answer in Python, users in a pod, a Prometheus beside."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from controller.api.rollout import AgentRollout
from devkit.cluster import Cluster
from devkit.helm import Helm
from devkit.process import wait_until
from devkit.prometheus import Prometheus, ScrapeJob

Raw = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts" / "agentrollout"
IMAGE = os.environ.get("E2E_AGENTROLLOUT_IMAGE", "localhost/agentrollout:dev")
"""What `make image` builds, already known to every node."""
RELEASE, HOST, ROLLOUT = "agentrollout", "agent.example", "agent"
USERS = "users"

_SECURITY = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_AGENT = """
import os, random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self):
        body = os.environ["VERSION"].encode()
        self.send_response(500 if random.random() < float(os.environ["FAILS"]) else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server(("", 8080), Agent).serve_forever()
"""
_ASK = """
import asyncio, collections, itertools, json, os, time, httpx
URL, HOST, RATE = os.environ["URL"], os.environ["HOST"], float(os.environ["RATE"])
async def ask(client, number, met):
    try:
        answer = await client.get(URL, headers={"host": HOST, "x-session-id": str(number)})
        met[f"{answer.text[:20]} {answer.status_code}"] += 1
    except httpx.HTTPError as error:
        met[f"broken {type(error).__name__}"] += 1
async def main():
    async with httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        met, told, tasks = collections.Counter(), time.monotonic(), set()
        for number in itertools.count():
            task = asyncio.create_task(ask(client, number, met))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / RATE)
            if time.monotonic() - told >= 1:
                print(json.dumps(met), flush=True)
                told = time.monotonic()
asyncio.run(main())
"""


class ChartLab:
    """One release of the chart in a namespace of its own, under the restricted pod security level."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.helm = Helm(cluster.kubeconfig)
        jobs = [ScrapeJob("routers", path="/stats/prometheus"), ScrapeJob("operators")]
        self.prometheus = Prometheus(jobs, host=_own_address(cluster), directory=directory / "prometheus")
        self.times: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how many seconds something took."""
        begun = time.monotonic()
        yield
        self.times[what] = round(time.monotonic() - begun, 1)
        print(f"{what}: {self.times[what]} s")

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, input=given)

    def install(self, verb: str, *settings: str) -> None:
        """Install or upgrade, and wait until all pods are ready."""
        repository, tag = IMAGE.rsplit(":", 1)
        values = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
            "prometheus": {"urls": [self.prometheus.url]},
            "operator": {"replicas": 2, "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}},
            "router": {
                "concurrency": 1,
                "drainSeconds": 5,
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            },
        }
        self.helm.run(
            verb, RELEASE, CHART, f"--namespace={self.namespace}", "--values=-", "--wait", "--timeout=100s",
            *settings, input=json.dumps(values),
        )  # fmt: skip
        self.scrape()

    def scrape(self) -> None:
        """Have Prometheus scrape the pods that are there now."""
        for job, component, port in (("routers", "router", 9902), ("operators", "operator", 8081)):
            self.prometheus.set_targets(
                job, [f"{pod['status']['podIP']}:{port}" for pod in self.pods(component)]
            )

    def pods(self, component: str) -> list[Raw]:
        """The running pods of a part."""
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        found = json.loads(self.kubectl("get", "pods", f"--selector={selector}", "--output=json"))["items"]
        return [
            pod for pod in found if pod["status"].get("podIP") and "deletionTimestamp" not in pod["metadata"]
        ]

    def deploy(self, version: str, *, fails: float = 0) -> None:
        """Run a version of the agent behind a Service of its own."""
        environment = {"VERSION": version, "FAILS": str(fails)}
        self.apply(_pod_template(version, _AGENT, environment, port=8080), kind="Deployment", name=version)
        self.apply(
            {"selector": {"app": version}, "ports": [{"port": 80, "targetPort": 8080}]},
            kind="Service",
            name=version,
        )
        self.kubectl("rollout", "status", f"deployment/{version}", "--timeout=60s")

    def send_users(self, per_second: int) -> None:
        """Have users ask the routers' Service from a pod, until the namespace goes."""
        environment = {"URL": f"http://{RELEASE}-router", "HOST": HOST, "RATE": str(per_second)}
        self.apply(_pod_template(USERS, _ASK, environment), kind="Deployment", name=USERS)
        self.kubectl("rollout", "status", f"deployment/{USERS}", "--timeout=60s")

    def met(self) -> dict[str, int]:
        """How many answers users have had so far, by version and status."""
        lines = self.kubectl("logs", f"deployment/{USERS}", "--tail=1").splitlines()
        found: dict[str, int] = json.loads(lines[-1]) if lines else {}
        return found

    def want(self, version: str) -> None:
        """Deliver a version in short stages."""
        stages = [
            {"weight": weight, "minDuration": "5s", "minRequests": 20} for weight in ("10%", "50%", "100%")
        ]
        spec = {
            "agent": {
                "code": {"service": {"name": version, "port": 80}},
                "prompts": {"system": f"You are {version}."},
            },
            "traffic": {"envoy": {"hosts": [HOST]}, "affinity": {"header": "x-session-id"}},
            "stages": stages,
            "analysis": {"interval": "2s", "clustering": 1, "metrics": [{"name": "errors"}]},
        }
        self.apply(spec, kind="AgentRollout", name=ROLLOUT)

    def apply(self, spec: Raw, *, kind: str, name: str) -> None:
        groups = {"Deployment": "apps/v1", "Service": "v1", "AgentRollout": "agentrollout.dev/v1alpha1"}
        found = {"apiVersion": groups[kind], "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "--server-side", "--filename=-", given=yaml.safe_dump(found))

    def rollout(self) -> AgentRollout:
        """The rollout as the API server has it."""
        return AgentRollout.model_validate(json.loads(self.kubectl("get", "aro", ROLLOUT, "--output=json")))

    def until(self, holds: Callable[[AgentRollout], Any], *, timeout: float = 120) -> AgentRollout:
        """Wait until something holds of the rollout."""
        seen: list[AgentRollout] = []

        def is_there() -> bool:
            seen[:] = [self.rollout()]
            return bool(holds(seen[0]))

        wait_until(is_there, timeout=timeout, what=f"the rollout (State {self.rollout().status.state})")
        return seen[0]

    def failures(self, *, but_of: str = "") -> dict[str, int]:
        """What users met that is no answer with 200, but for answers of one version."""
        return {
            kind: count
            for kind, count in self.met().items()
            if not kind.endswith(" 200") and not (but_of and kind.startswith(f"{but_of} "))
        }


def _pod_template(name: str, code: str, environment: dict[str, str], *, port: int | None = None) -> Raw:
    container: Raw = {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", code],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "securityContext": _SECURITY,
    }
    if port is not None:
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    return {
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        },
    }


def _own_address(cluster: Cluster) -> str:
    """The address of this machine that is nearest to the cluster: pods reach a process that listens there."""
    if named := os.environ.get("E2E_HOST_ADDRESS"):
        return named
    (entry,) = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"]
    server = urlsplit(entry["cluster"]["server"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((server.hostname, server.port or 443))
        address: str = probe.getsockname()[0]
    return address
