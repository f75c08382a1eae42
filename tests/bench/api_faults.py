"""``python -m tests.bench.api_faults``: our informer and the official client's under each fault of an API server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import structlog
import typer
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config
from kubernetes.informer import SharedInformer
from rich import box
from rich.console import Console
from rich.table import Table

from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.resource import Resource
from controller.runtime.transport import KubernetesTransport
from tests.bench.conditions import conditions, headline, write
from tests.faulty_api import FaultyApi, Kind
from tests.faulty_api.scenarios import SCENARIOS, Scenario

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
OBJECTS = 20
READ_VERBS = ("list", "watch", "watchlist")
READ_SCENARIOS = tuple(scenario for scenario in SCENARIOS if scenario.concerns_reads)

Known = Mapping[str, str]
"""The version of each object, by its name."""


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        seconds: How long each fault lasts for ours; one object changes every second. The bounds are meant for minutes.
        official_seconds: The same for the official one, whose rhythm does not change.
        patience: How many seconds after its end an informer may take to be in step.
    """

    seconds: float
    official_seconds: float
    patience: float


@dataclass(frozen=True)
class Finding:
    """What one informer did under one fault.

    Attributes:
        requests_per_second: While the fault lasted.
        in_step_after: Seconds after the fault's end until it knew everything; None if it never did.
        differences: Objects that it did not know, knew in an old version, or took for existing, at the end.
    """

    requests_per_second: float
    in_step_after: float | None
    differences: int


class Follower(Protocol):
    """An informer."""

    async def start(self, kubeconfig: Path) -> None:
        """Begin to follow."""

    def known(self) -> Known:
        """What it believes to be there."""

    async def stop(self) -> None:
        """End."""


class Ours:
    """The runtime's informer with the settings that the operator uses."""

    async def start(self, kubeconfig: Path) -> None:
        self._transport = await KubernetesTransport.connect(kubeconfig=str(kubeconfig))
        client = ResourceClient(self._transport, CONFIG_MAPS, field_manager="bench")
        self._informer: Informer[str] = Informer(
            client, lambda raw: str(raw["metadata"]["resourceVersion"]), SystemClock()
        )
        self._task = asyncio.create_task(self._informer.run())

    def known(self) -> Known:
        store = self._informer.store
        return {key.partition("/")[2]: store.get(key) or "" for key in store.keys()}  # noqa: SIM118 - no mapping

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._transport.close()


class Official:
    """``kubernetes.informer.SharedInformer``, with its defaults."""

    async def start(self, kubeconfig: Path) -> None:
        api = CoreV1Api(await asyncio.to_thread(new_client_from_config, str(kubeconfig)))
        informer: Any = SharedInformer  # it has no types
        self._informer = informer(api.list_config_map_for_all_namespaces)
        self._informer.start()

    def known(self) -> Known:
        return {item.metadata.name: item.metadata.resource_version for item in self._informer.cache.list()}

    async def stop(self) -> None:
        # Its own stop waits for the thread, which may hang in a request for ever.
        self._informer._stop_event.set()


async def examine(scenario: Scenario, follower: Follower, seconds: float, patience: float) -> Finding:
    """One informer under one fault."""
    kind = Kind("", "v1", "configmaps", "ConfigMap")
    with tempfile.TemporaryDirectory(prefix="agentrollout-faults-") as directory:
        async with FaultyApi(Path(directory), kind) as server:
            for number in range(OBJECTS):
                _change(server, number)
            await follower.start(server.kubeconfig)
            try:
                if await _in_step(server, follower, within=30) is None:
                    raise RuntimeError("not in step before the fault")
                return await _measure(server, scenario, follower, seconds, patience)
            finally:
                await follower.stop()


async def _measure(
    server: FaultyApi, scenario: Scenario, follower: Follower, seconds: float, patience: float
) -> Finding:
    server.faults = scenario.faults()
    server.calls.clear()
    server.close_watches()
    server.storage.delete(_path(0))
    if scenario.compacted:
        server.storage.compact()
    for second in range(round(seconds)):
        _change(server, second % OBJECTS + 1)
        await asyncio.sleep(1.0)
    requests = sum(server.calls[verb] for verb in READ_VERBS)
    server.faults = []
    after = await _in_step(server, follower, within=patience)
    return Finding(requests / seconds, after, len(_differences(server, follower)))


def _path(number: int) -> tuple[str, str, str, str]:
    return ("", "configmaps", "default", f"object-{number}")


def _change(server: FaultyApi, number: int) -> None:
    path = _path(number)
    new = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "default", "name": path[3]},
    }
    server.storage.put(
        path, {**server.storage.objects.get(path, new), "data": {"at": str(server.storage.version)}}
    )


async def _in_step(server: FaultyApi, follower: Follower, within: float) -> float | None:
    started = time.monotonic()
    while _differences(server, follower):
        if time.monotonic() - started > within:
            return None
        await asyncio.sleep(0.05)
    return time.monotonic() - started


def _differences(server: FaultyApi, follower: Follower) -> set[tuple[str, str]]:
    stored = {path[3]: raw["metadata"]["resourceVersion"] for path, raw in server.storage.objects.items()}
    return set(stored.items()) ^ set(follower.known().items())


async def run(settings: Settings, console: Console) -> dict[str, dict[str, Finding]]:
    """Ours under all faults at once, each on a server of its own; the official one fault by fault, as it may be busy."""
    with console.status("our informer, all faults side by side"):
        ours = await asyncio.gather(
            *(examine(scenario, Ours(), settings.seconds, settings.patience) for scenario in READ_SCENARIOS)
        )
    found = {scenario.name: {"ours": finding} for scenario, finding in zip(READ_SCENARIOS, ours, strict=True)}
    with console.status("") as status:
        for scenario in READ_SCENARIOS:
            status.update(f"official informer: {scenario.name}")
            found[scenario.name]["official"] = await examine(
                scenario, Official(), settings.official_seconds, settings.patience
            )
    return found


def show(found: dict[str, dict[str, Finding]], console: Console) -> None:
    """The table."""
    table = Table(box=box.MARKDOWN)
    table.add_column("fault", no_wrap=True)
    for column in (
        "bound, requests/s",
        "ours",
        "official",
        "ours in step after, s",
        "official",
        "ours wrong",
        "official",
    ):
        table.add_column(column, justify="right")
    for scenario in READ_SCENARIOS:
        pair = found[scenario.name]["ours"], found[scenario.name]["official"]
        table.add_row(
            scenario.name,
            f"{scenario.reads / 60:.2f}",
            *(f"{finding.requests_per_second:.2f}" for finding in pair),
            *(
                "never" if finding.in_step_after is None else f"{finding.in_step_after:.1f}"
                for finding in pair
            ),
            *(str(finding.differences) for finding in pair),
        )
    console.print(table)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither informer's complaints are what is measured."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    threading.excepthook = lambda _: None
    yield


def main(
    quick: Annotated[bool, typer.Option(help="A smoke run: short faults, little patience.")] = False,
    report: Annotated[Path, typer.Option(help="Where the findings go.")] = Path(
        "build/bench-api-faults.json"
    ),
) -> None:
    """Both informers under each fault."""
    console = Console(width=200)
    settings = Settings(4, 4, 8) if quick else Settings(120, 20, 200)
    started = conditions()
    with _quiet():
        found = asyncio.run(run(settings, console))
    console.print(headline(started))
    console.print(
        f"each fault lasts {settings.seconds:g} s for ours and {settings.official_seconds:g} s for the official one; "
        f"patience afterwards {settings.patience:g} s"
    )
    show(found, console)
    write(report, {"conditions": started, "settings": settings, "found": found})


if __name__ == "__main__":
    typer.run(main)
