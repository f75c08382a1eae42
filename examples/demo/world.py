"""Everything the demo runs on: a Kubernetes API, Prometheus, Envoy, the operator, and one process for each agent."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.listener import LISTENER_NAME
from devkit.cluster import Cluster, ExistingCluster, open_cluster
from devkit.envoy import Envoy
from devkit.errors import DevkitError
from devkit.process import LOOPBACK, Process, free_port
from devkit.prometheus import Prometheus, ScrapeJob
from devkit.service import answers
from devkit.toolchain import Toolchain
from examples.demo.errors import DemoError
from examples.demo.versions import AgentVersion

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_START_SECONDS = 30.0
_ROUTER = "router-0"
_LOG_LINES = 3


COMMAND = Path(sys.executable).with_name("agentrollout")
"""The product, as it was installed beside the demo."""


@dataclass(frozen=True)
class Ports:
    """Where the product listens."""

    xds: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    users: int = field(default_factory=free_port)
    capture: int = field(default_factory=free_port)
    shadow_http: int = field(default_factory=free_port)


@dataclass
class World:
    """What runs, and how to reach it."""

    directory: Path
    cluster: Cluster
    prometheus: Prometheus
    operator: Process
    operator_url: str
    shadow: Process
    shadow_url: str
    records: str
    envoy: Envoy
    users_url: str
    stack: ExitStack
    manifest: dict[str, Any] = field(
        default_factory=lambda: yaml.safe_load((_HERE / "rollout.yaml").read_text())
    )
    agents: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The host name that users ask for."""
        return str(self.manifest["spec"]["traffic"]["envoy"]["hosts"][0])

    @property
    def name(self) -> str:
        """Name of the AgentRollout."""
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.manifest["metadata"]["namespace"])

    def start_agent(self, version: AgentVersion) -> None:
        """Start the process that serves a version and have it scraped.

        Raises:
            DevkitError: If it does not come up.
        """
        path = self.directory / f"{version.name}.json"
        version.save(path)
        port = free_port()
        module = ["-m", "examples.demo.agent", f"--version-file={path}", f"--port={port}"]
        agent = Process(
            f"agent-{version.name}", [sys.executable, *module], self.directory, env={"PYTHONPATH": str(_ROOT)}
        )
        self.stack.callback(agent.stop)
        agent.start()
        url = f"http://{LOOPBACK}:{port}"
        agent.wait_ready(lambda: answers(f"{url}/healthz"), timeout=_START_SECONDS, port=port)
        self.agents[version.name] = url
        targets = [each.removeprefix("http://") for each in self.agents.values()]
        self.prometheus.set_targets("agents", targets)

    def apply(self, version: AgentVersion, shadow: Mapping[str, Any] | None = None) -> int:
        """Apply the AgentRollout with this version and return the generation it got.

        Args:
            version: What is delivered.
            shadow: ``spec.shadow``; left out if it is empty.

        Raises:
            DevkitError: If the API server refuses it.
        """
        agent = version.manifest_agent(self.agents[version.name])
        spec = {**self.manifest["spec"], "agent": agent} | ({"shadow": dict(shadow)} if shadow else {})
        wanted = {**self.manifest, "spec": spec}
        path = self.directory / f"{self.name}-{version.name}.yaml"
        path.write_text(yaml.safe_dump(wanted, sort_keys=False))
        printed = self.cluster.kubectl("apply", f"--filename={path}", "--output=json")
        return int(json.loads(printed)["metadata"]["generation"])

    def watch_command(self) -> list[str | Path]:
        """Prints the AgentRollout as JSON whenever it changes."""
        kubectl = Toolchain().find("kubectl")
        caches = f"--cache-dir={self.cluster.kubeconfig.parent / 'kubectl-cache'}"
        access = [f"--kubeconfig={self.cluster.kubeconfig}", caches, f"--namespace={self.namespace}"]
        return [kubectl, *access, "get", "agentrollout", self.name, "--watch", "--output=json"]

    def is_scraped(self) -> bool:
        """Whether Prometheus has two scrapes of Envoy, which is what counting needs."""
        found = self.prometheus.query("count_over_time(envoy_server_live[1m])")
        return any(float(each["value"][1]) >= 2 for each in found)

    def check(self) -> None:
        """Raise DemoError if something that must run does not."""
        for process in (self.operator, self.shadow, self.envoy.process, self.prometheus.process):
            if not process.running:
                last = "\n".join(process.log_tail().splitlines()[-_LOG_LINES:])
                raise DemoError(
                    f"{process.name} ended with code {process.returncode}. Its log {process.log} ends with:\n{last}"
                )


@contextmanager
def open_world(directory: Path, say: Callable[[str], None]) -> Iterator[World]:
    """Start everything, and remove it on the way out.

    Args:
        directory: For logs and data; left in place.
        say: Called with what is being started.

    Raises:
        DevkitError: If something does not come up.
    """
    with ExitStack() as stack:
        say("Starting a Kubernetes API server.")
        cluster = stack.enter_context(open_cluster(directory))
        _prepare(cluster, stack)
        say("Starting Prometheus, the operator, the shadow process and Envoy.")
        jobs = [ScrapeJob("envoy", path="/stats/prometheus"), ScrapeJob("agents"), ScrapeJob("shadow")]
        prometheus = stack.enter_context(Prometheus(jobs, directory=directory / "prometheus"))
        ports = Ports()
        operator = _started("operator", _operator_command(cluster, prometheus, ports), directory, stack)
        records = f"sqlite:///{directory / 'comparisons.db'}"
        shadow = _started("shadow", _shadow_command(ports, records), directory, stack)
        operator_url, shadow_url = f"http://{LOOPBACK}:{ports.http}", f"http://{LOOPBACK}:{ports.shadow_http}"
        envoy = stack.enter_context(_envoy(directory, ports.xds))
        operator.wait_ready(lambda: answers(f"{operator_url}/readyz"), timeout=_START_SECONDS)
        shadow.wait_ready(lambda: answers(f"{shadow_url}/readyz"), timeout=_START_SECONDS)
        envoy.wait_live()
        port = envoy.listener_address(LISTENER_NAME).rpartition(":")[2]
        prometheus.set_targets("envoy", [envoy.admin_address])
        prometheus.set_targets("shadow", [shadow_url.removeprefix("http://")])
        yield World(
            directory=directory,
            cluster=cluster,
            prometheus=prometheus,
            operator=operator,
            operator_url=operator_url,
            shadow=shadow,
            shadow_url=shadow_url,
            records=records,
            envoy=envoy,
            users_url=f"http://{LOOPBACK}:{port}",
            stack=stack,
        )


@contextmanager
def kept_on_failure(directory: Path) -> Iterator[None]:
    """Remove the logs when all went well or the user gave up, and keep them otherwise."""
    try:
        yield
    except KeyboardInterrupt:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    else:
        shutil.rmtree(directory, ignore_errors=True)


def _prepare(cluster: Cluster, stack: ExitStack) -> None:
    folder = _ROOT / "crds"
    cluster.kubectl("apply", f"--filename={folder}")
    cluster.kubectl(
        "wait",
        "--for=condition=Established",
        "--timeout=30s",
        *(f"--filename={path}" for path in folder.glob("agentrollout.dev_*.yaml")),
    )
    cluster.kubectl("create", "namespace", "shop")
    if isinstance(cluster, ExistingCluster):  # any other is gone as a whole
        stack.callback(_delete_namespace, cluster)


def _delete_namespace(cluster: Cluster) -> None:
    with contextlib.suppress(DevkitError):
        cluster.kubectl("delete", "namespace", "shop", "--wait=false")


def _envoy(directory: Path, xds_port: int) -> Envoy:
    configuration = bootstrap(_ROUTER, operators=[(LOOPBACK, xds_port)])
    # Its configuration comes from the operator, so it is awaited when the operator is there.
    return Envoy(configuration, wait_live=False, directory=directory / "envoy")


def _started(name: str, command: list[str | Path], directory: Path, stack: ExitStack) -> Process:
    process = Process(name, command, directory)
    stack.callback(process.stop)
    process.start()
    return process


def _shadow_command(ports: Ports, records: str) -> list[str | Path]:
    return [
        COMMAND,
        "shadow",
        "serve",
        f"--capture-address={LOOPBACK}:{ports.capture}",
        f"--http-address={LOOPBACK}:{ports.shadow_http}",
        f"--records={records}",
        "--log-format=json",
    ]


def _operator_command(cluster: Cluster, prometheus: Prometheus, ports: Ports) -> list[str | Path]:
    return [
        COMMAND,
        "operator",
        f"--kubeconfig={cluster.kubeconfig}",
        f"--prometheus-url={prometheus.url}",
        f"--xds-address={LOOPBACK}:{ports.xds}",
        f"--http-address={LOOPBACK}:{ports.http}",
        f"--router-address={LOOPBACK}:{ports.users}",
        f"--shadow-address={LOOPBACK}:{ports.capture}",
        f"--allowed-url-host={LOOPBACK}",
        "--log-format=json",
    ]
