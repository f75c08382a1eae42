"""Puts the parts of the operator together. Nothing else knows them all."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from controller.adapters.batching import BatchingSource
from controller.adapters.envoy.access_log import AccessLog
from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.router import EnvoyRouter
from controller.adapters.failover import FailoverSource
from controller.adapters.ports import MetricSource
from controller.adapters.prometheus import PrometheusSource
from controller.api.quantities import format_percent
from controller.flag_servers import FlagServers
from controller.reconcilers.actions import BINDINGS, POLICIES, Actions
from controller.reconcilers.backends import Backends
from controller.reconcilers.deletion import Deletion
from controller.reconcilers.gather import Gatherer
from controller.reconcilers.images import PODS, PodImages
from controller.reconcilers.kill_metrics import KillMetrics
from controller.reconcilers.kills import KillSwitches
from controller.reconcilers.metrics import RolloutMetrics
from controller.reconcilers.observed import (
    ObservedRevision,
)
from controller.reconcilers.references import References
from controller.reconcilers.roles import RoleReconciler
from controller.reconcilers.rollouts import RolloutReconciler
from controller.reconcilers.services import (
    ServiceEndpoints,
    referring,
)
from controller.reconcilers.switch_maps import SwitchMaps
from controller.reconcilers.teller import Teller
from controller.reconcilers.traffic import TrafficPublisher
from controller.reconcilers.trial_metrics import TrialMetrics
from controller.reconcilers.unreadable import UnreadableTeller
from controller.replicas import Replicas
from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.controller import Controller
from controller.runtime.election import Role
from controller.runtime.errors import NotFound
from controller.runtime.manager import Manager
from controller.runtime.metrics import RuntimeMetrics, process_metrics
from controller.runtime.recorder import EVENTS, Recorder
from controller.runtime.store import Store
from controller.runtime.transport import KubernetesTransport
from controller.runtime.workqueue import WorkQueue
from controller.runtime.writes import WriteThrough
from controller.settings import FIELD_MANAGER, Address, OperatorSettings
from controller.watched import BY_ARTIFACT, Watched
from controller.web import HttpServer, ReadArtifact, create_app

CONTROLLER = "agentrollout"
EVENT_SOURCE = "agentrollout.dev/operator"
WORKERS = 64
IMAGES = "images"
IMAGE_WORKERS = 4

_log = structlog.get_logger(__name__)


async def run_operator(settings: OperatorSettings) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    registry = CollectorRegistry()
    process_metrics(registry)
    runtime_metrics = RuntimeMetrics(registry)
    # Leases have connections of their own: a flood of work must not queue up in front of a renewal.
    transport, leases = [
        await KubernetesTransport.connect(
            kubeconfig=settings.kubeconfig, context=settings.context, metrics=runtime_metrics
        )
        for _ in range(2)
    ]
    servers = [PrometheusSource(url, http=settings.prometheus_http) for url in settings.prometheus_urls]
    source = BatchingSource(FailoverSource(servers))
    try:
        manager = build_manager(settings, transport, leases, source, registry, runtime_metrics)
        manager.stop_on_signals()
        await manager.run()
    finally:
        await source.close()
        for server in servers:
            await server.close()
        await transport.close()
        await leases.close()


def build_manager(
    settings: OperatorSettings,
    transport: KubernetesTransport,
    leases: KubernetesTransport,
    source: MetricSource,
    registry: CollectorRegistry,
    runtime_metrics: RuntimeMetrics,
) -> Manager:
    """All parts of the operator in one manager, not yet running."""
    clock = SystemClock()
    watched = Watched.of(settings, transport, clock, runtime_metrics)
    rollouts, revisions = watched.rollouts.store, watched.revisions.store
    endpoints = ServiceEndpoints(watched.services.store, watched.slices.store)
    images_queue = WorkQueue(IMAGES, clock, metrics=runtime_metrics)
    images = PodImages(endpoints, images_queue, lambda *where: _pods(transport, *where))
    users, shadow = settings.router_address, settings.shadow_address
    access_log = AccessLog(clock.monotonic)
    TrialMetrics(registry, access_log.counts)
    router = EnvoyRouter(
        now=clock.now,
        options=RouterOptions(
            listen_address=users.host,
            listen_port=users.port,
            tls_cert_file=settings.router_tls_cert_file or "",
            tls_key_file=settings.router_tls_key_file or "",
            shadow_address=(shadow.host, shadow.port) if shadow else None,
        ),
        endpoints=endpoints,
        access_log=access_log,
    )
    servers = FlagServers.of(settings, clock)
    maps = SwitchMaps(watched.switches.store, settings.namespace, clock.now)
    kills = KillSwitches(rollouts, maps, servers.books, KillMetrics(registry))
    publisher = TrafficPublisher(router, rollouts, revisions, settings.allowed_hosts, kills)
    replicas = Replicas.of(settings, leases, router, publisher, clock, runtime_metrics)
    metrics = RolloutMetrics(registry, clock)
    gatherer = Gatherer(
        revisions=revisions,
        publisher=publisher,
        fleet=replicas.fleet,
        backends=Backends(settings.allowed_url_hosts, endpoints, images),
        metrics=source,
        catalogue=CATALOGUE,
        shadows=settings.shadow_address is not None,
    )
    recorder = Recorder(
        ResourceClient(transport, EVENTS, field_manager=FIELD_MANAGER),
        clock,
        controller=EVENT_SOURCE,
        instance=socket.gethostname(),
        metrics=runtime_metrics,
    )
    written = WriteThrough(watched.rollout_client, rollouts)
    deletion = Deletion(publisher, router, replicas.fleet, written, clock)
    reconciler = RolloutReconciler(
        rollouts=rollouts,
        revisions=revisions,
        rollout_client=written,
        revision_client=WriteThrough(watched.revision_client, revisions),
        gatherer=gatherer,
        references=References(watched.rollout_client, watched.sources),
        publisher=publisher,
        catalogue=CATALOGUE,
        clock=clock,
        metrics=metrics,
        teller=Teller(recorder),
        deletion=deletion,
        unreadable=UnreadableTeller(written, recorder, clock),
        actions=Actions(
            watched.actions.store,
            WriteThrough(watched.action_client, watched.actions.store),
            ResourceClient(transport, POLICIES, field_manager=FIELD_MANAGER),
            ResourceClient(transport, BINDINGS, field_manager=FIELD_MANAGER),
            clock,
            metrics,
        ),
    )
    queue = WorkQueue(CONTROLLER, clock, metrics=runtime_metrics)
    roles = RoleReconciler(
        replicas.elector.role,
        reconciler,
        rollouts=rollouts,
        publisher=publisher,
        queue=queue,
        metrics=metrics,
        deletion=deletion,
    )
    replicas.elector.on_role(roles.role_changed)
    replicas.elector.on_role(lambda _before, after: access_log.lead(after is Role.LEADING))
    replicas.fleet.on_change(queue.add)
    publisher.on_change(queue.add)
    kills.on_change(publisher.look)
    kills.on_change(queue.add)
    watched.sources.on_change(queue.add)
    watched.actions.on_change(
        lambda _key, old, new: queue.add_all({each.rollout for each in (old, new) if each})
    )
    router.on_change(lambda key: _acknowledged(key, publisher, metrics, router))
    router.on_change(queue.add)
    for behind in (endpoints, images):
        behind.on_change(lambda service: queue.add_all(referring(service, rollouts, revisions)))
    manager = Manager()
    web = _web(
        settings, manager, registry, lambda found: _read_artifact(found, revisions, watched.revision_client)
    )
    manager.add_runnable("http", web.run, before_sync=True)
    watched.join(manager)
    servers.join(manager)
    manager.add_runnable("xds", lambda: _serve_xds(router, settings, servers))
    replicas.join(manager)
    manager.add_runnable("events", recorder.run)
    manager.add_controller(
        Controller(CONTROLLER, queue, roles.reconcile, clock=clock, workers=WORKERS, metrics=runtime_metrics)
    )
    manager.add_controller(
        Controller(
            IMAGES, images_queue, images.read, clock=clock, workers=IMAGE_WORKERS, metrics=runtime_metrics
        )
    )
    return manager


def _pods(transport: KubernetesTransport, namespace: str, label_selector: str) -> ResourceClient:
    return ResourceClient(
        transport, PODS, field_manager=FIELD_MANAGER, namespace=namespace, label_selector=label_selector
    )


def _web(
    settings: OperatorSettings, manager: Manager, registry: CollectorRegistry, read_artifact: ReadArtifact
) -> HttpServer:
    app = create_app(live=manager.live, ready=manager.ready, registry=registry, read_artifact=read_artifact)
    return HttpServer(app, settings.http_address.host, settings.http_address.port)


async def _serve_xds(router: EnvoyRouter, settings: OperatorSettings, servers: FlagServers) -> None:
    """Serve routers; only started once the stores are complete, so that no router is ever told of an empty world.

    Nor of a candidate that a flag has killed while nobody was there to write it down.
    """
    await servers.first_answers()
    address = settings.xds_address
    port = await router.start(address.host, address.port, settings.xds_tls)
    _log.info("xds_serving", address=str(Address(address.host, port)), tls=settings.xds_tls is not None)
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
    if programmed.table is None or not programmed.serves(publisher.wanted(key)):
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
