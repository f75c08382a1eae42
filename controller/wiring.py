"""Puts the parts of the operator together. Nothing else knows them all."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.router import EnvoyRouter
from controller.adapters.prometheus import PrometheusSource
from controller.api.quantities import format_percent
from controller.reconcilers.gather import Gatherer
from controller.reconcilers.metrics import RolloutMetrics
from controller.reconcilers.observed import (
    REVISIONS,
    ROLLOUTS,
    ObservedRevision,
    ObservedRollout,
    hosts_of,
    observe_revision,
    observe_rollout,
)
from controller.reconcilers.rollouts import RolloutReconciler
from controller.reconcilers.traffic import BY_HOST, BY_OWNER, TrafficPublisher
from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.controller import Controller
from controller.runtime.errors import NotFound
from controller.runtime.informer import Informer
from controller.runtime.manager import Manager
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.store import Store
from controller.runtime.transport import KubernetesTransport
from controller.runtime.workqueue import WorkQueue
from controller.settings import Address, OperatorSettings
from controller.web import HttpServer, create_app

FIELD_MANAGER = "agentrollout"
BY_ARTIFACT = "artifact"
WORKERS = 64

_log = structlog.get_logger(__name__)


async def run_operator(settings: OperatorSettings) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    registry = CollectorRegistry()
    runtime_metrics = RuntimeMetrics(registry)
    transport = await KubernetesTransport.connect(
        kubeconfig=settings.kubeconfig, context=settings.context, metrics=runtime_metrics
    )
    source = PrometheusSource(settings.prometheus_url)
    try:
        manager = build_manager(settings, transport, source, registry, runtime_metrics)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, manager.stop)
        await manager.run()
    finally:
        await source.close()
        await transport.close()


def build_manager(
    settings: OperatorSettings,
    transport: KubernetesTransport,
    source: PrometheusSource,
    registry: CollectorRegistry,
    runtime_metrics: RuntimeMetrics,
) -> Manager:
    """All parts of the operator in one manager, not yet running."""
    clock = SystemClock()
    rollout_client = ResourceClient(transport, ROLLOUTS, field_manager=FIELD_MANAGER)
    revision_client = ResourceClient(transport, REVISIONS, field_manager=FIELD_MANAGER)
    rollouts: Informer[ObservedRollout] = Informer(
        rollout_client, observe_rollout, clock, indexers={BY_HOST: hosts_of}, metrics=runtime_metrics
    )
    revisions: Informer[ObservedRevision] = Informer(
        revision_client,
        observe_revision,
        clock,
        indexers={BY_OWNER: lambda r: (r.owner,), BY_ARTIFACT: lambda r: (r.revision.artifact_id,)},
        metrics=runtime_metrics,
    )
    listener = settings.router_address
    router = EnvoyRouter(
        now=clock.now, options=RouterOptions(listen_address=listener.host, listen_port=listener.port)
    )
    publisher = TrafficPublisher(router, rollouts.store, revisions.store)
    rollout_metrics = RolloutMetrics(registry, clock)
    queue = WorkQueue("agentrollout", clock, metrics=runtime_metrics)
    reconciler = RolloutReconciler(
        rollouts=rollouts.store,
        revisions=revisions.store,
        rollout_client=rollout_client,
        revision_client=revision_client,
        gatherer=Gatherer(
            revisions=revisions.store,
            publisher=publisher,
            router=router,
            metrics=source,
            catalogue=CATALOGUE,
            allowed_hosts=settings.allowed_url_hosts,
        ),
        publisher=publisher,
        catalogue=CATALOGUE,
        clock=clock,
        metrics=rollout_metrics,
    )
    publisher.on_change(queue.add)
    router.on_change(lambda key: _acknowledged(key, publisher, rollout_metrics, router))
    router.on_change(queue.add)
    manager = Manager()
    web = HttpServer(
        create_app(
            live=manager.live,
            ready=manager.ready,
            registry=registry,
            read_artifact=lambda artifact: _read_artifact(artifact, revisions.store, revision_client),
        ),
        settings.http_address.host,
        settings.http_address.port,
    )
    manager.add_runnable("http", web.run, before_sync=True)
    manager.add_informer(rollouts)
    manager.add_informer(revisions)
    manager.add_runnable("xds", lambda: _serve_xds(router, settings.xds_address))
    manager.add_controller(
        Controller(
            "agentrollout", queue, reconciler.reconcile, clock=clock, workers=WORKERS, metrics=runtime_metrics
        )
    )
    return manager


async def _serve_xds(router: EnvoyRouter, address: Address) -> None:
    """Serve routers; only started once the stores are complete, so that no router is ever told of an empty world."""
    port = await router.start(address.host, address.port)
    _log.info("xds_serving", address=str(Address(address.host, port)))
    try:
        await asyncio.Event().wait()
    finally:
        await router.stop()


def _acknowledged(
    key: str, publisher: TrafficPublisher, metrics: RolloutMetrics, router: EnvoyRouter
) -> None:
    """Log what the data plane acknowledged, and time cuts."""
    programmed = router.programmed(key)
    if programmed.error:
        _log.warning("split_refused", rollout=key, error=programmed.error)
    if not programmed.instances or programmed.table is None or programmed.table != publisher.wanted(key):
        return
    seconds = None if programmed.table.serves_candidate else metrics.cut_acknowledged(key)
    _log.info(
        "split_acknowledged",
        rollout=key,
        artifact=programmed.table.candidate.artifact_id if programmed.table.candidate else "",
        weight=format_percent(programmed.table.weight_ppm),
        instances=programmed.instances,
        seconds_since_cut=seconds,
    )


async def _read_artifact(
    artifact: str, revisions: Store[ObservedRevision], client: ResourceClient
) -> dict[str, Any] | None:
    """The whole agent of an artifact; the store keeps only what decisions need."""
    kept = revisions.by_index(BY_ARTIFACT, artifact)
    if not kept:
        return None
    try:
        found: dict[str, Any] = (await client.get(kept[0].key))["spec"]["agent"]
    except NotFound:
        return None
    return found
