"""Metrics of the runtime, under the names that controller-runtime and client-go made standard."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

RECONCILE_RESULTS = ("success", "requeue", "requeue_after", "error")
_REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_SHORT_TO_LONG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RuntimeMetrics:
    """All metrics of one runtime in one registry; make one per process.

    Attributes:
        reconcile_total: Reconciles by ``controller`` and ``result`` (success, requeue, requeue_after, error).
        reconcile_errors: Reconciles that raised, by ``controller``.
        reconcile_seconds: Duration of reconciles, by ``controller``.
        max_concurrent: Number of workers, by ``controller``.
        active_workers: Reconciles running now, by ``controller``.
        depth: Keys waiting in the queue ``name``, without the delayed ones.
        adds: Keys that entered the queue ``name``.
        retries: Rate-limited adds to the queue ``name``.
        queue_seconds: How long keys waited in the queue ``name``.
        work_seconds: How long keys were worked on from the queue ``name``.
        longest_running: Seconds since the oldest unfinished reconcile from the queue ``name`` began: shows what hangs.
        unfinished: Sum of those seconds over all unfinished ones.
        requests: Requests to the API server by ``code`` (``<error>`` without an answer), ``method`` and ``host``.
        request_seconds: From sending a request to the head of its answer, by ``verb`` (the HTTP method) and ``host``.
        watch_restarts: Ended watches by ``resource`` and ``reason``.
        leader: 1 while this process leads by the Lease ``name``, else 0.
        events: Kubernetes events by ``outcome``: created, updated (a series goes on), refused, dropped (too many waited).
        store_objects: Objects in the store of ``resource``.
        store_invalid: Objects of ``resource`` that cannot be understood and are kept out.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._define_controller_metrics(registry, ["controller"])
        self._define_queue_metrics(registry, ["name"])
        self._define_client_metrics(registry, ["resource"])

    def _define_controller_metrics(self, registry: CollectorRegistry, controller: list[str]) -> None:
        self.reconcile_total = Counter(
            "controller_runtime_reconcile_total",
            "Reconciles per controller and result.",
            [*controller, "result"],
            registry=registry,
        )
        self.reconcile_errors = Counter(
            "controller_runtime_reconcile_errors_total",
            "Reconciles per controller that raised.",
            controller,
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Duration of reconciles per controller.",
            controller,
            buckets=_SHORT_TO_LONG_SECONDS,
            registry=registry,
        )
        self.max_concurrent = Gauge(
            "controller_runtime_max_concurrent_reconciles",
            "Workers per controller.",
            controller,
            registry=registry,
        )
        self.active_workers = Gauge(
            "controller_runtime_active_workers",
            "Reconciles running now per controller.",
            controller,
            registry=registry,
        )

    def announce(self, controller: str, workers: int) -> None:
        """Show the series of a controller before its first reconcile, so that rates know where it began."""
        self.max_concurrent.labels(controller=controller).set(workers)
        self.active_workers.labels(controller=controller)
        self.reconcile_errors.labels(controller=controller)
        self.reconcile_seconds.labels(controller=controller)
        for result in RECONCILE_RESULTS:
            self.reconcile_total.labels(controller=controller, result=result)

    def _define_queue_metrics(self, registry: CollectorRegistry, queue: list[str]) -> None:
        self.depth = Gauge("workqueue_depth", "Keys waiting in the queue.", queue, registry=registry)
        self.adds = Counter("workqueue_adds_total", "Keys that entered the queue.", queue, registry=registry)
        self.retries = Counter("workqueue_retries_total", "Rate-limited adds.", queue, registry=registry)
        self.queue_seconds = Histogram(
            "workqueue_queue_duration_seconds",
            "How long keys waited in the queue.",
            queue,
            buckets=_SHORT_TO_LONG_SECONDS,
            registry=registry,
        )
        self.work_seconds = Histogram(
            "workqueue_work_duration_seconds",
            "How long keys were worked on.",
            queue,
            buckets=_SHORT_TO_LONG_SECONDS,
            registry=registry,
        )
        self.longest_running = Gauge(
            "workqueue_longest_running_processor_seconds",
            "Age of the oldest unfinished work.",
            queue,
            registry=registry,
        )
        self.unfinished = Gauge(
            "workqueue_unfinished_work_seconds",
            "Sum of the ages of unfinished work.",
            queue,
            registry=registry,
        )

    def _define_client_metrics(self, registry: CollectorRegistry, resource: list[str]) -> None:
        self.requests = Counter(
            "rest_client_requests_total",
            "Requests to the API server.",
            ["code", "method", "host"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "rest_client_request_duration_seconds",
            "From sending a request to the head of its answer.",
            ["verb", "host"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        self.watch_restarts = Counter(
            "agentrollout_watch_restarts_total", "Ended watches.", [*resource, "reason"], registry=registry
        )
        self.leader = Gauge(
            "leader_election_master_status",
            "Whether this process is the leader: 1 if so.",
            ["name"],
            registry=registry,
        )
        self.events = Counter(
            "agentrollout_events_total", "Kubernetes events by outcome.", ["outcome"], registry=registry
        )
        self.store_objects = Gauge(
            "agentrollout_store_objects", "Objects in the store.", resource, registry=registry
        )
        self.store_invalid = Gauge(
            "agentrollout_store_invalid_objects",
            "Objects that cannot be understood and are kept out of the store.",
            resource,
            registry=registry,
        )


def process_metrics(registry: CollectorRegistry) -> None:
    """Show what this process costs: ``process_*`` under their standard names, and its asyncio tasks.

    The registry must then be read on the event loop.
    """
    ProcessCollector(registry=registry)
    tasks = Gauge(
        "agentrollout_asyncio_tasks", "Tasks on the event loop that are not done.", registry=registry
    )
    tasks.set_function(lambda: len(asyncio.all_tasks()))


def private_metrics() -> RuntimeMetrics:
    """Metrics that nobody reads, so that measuring needs no conditions where no registry is given."""
    return RuntimeMetrics(CollectorRegistry())
