"""What makes several operators one: the election, and what they tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from controller.adapters.ports import TrafficRouter
from controller.reconcilers.fleet import REPLICA_LABEL, Fleet, Report, observe_report
from controller.reconcilers.reporter import FleetReporter
from controller.reconcilers.traffic import TrafficPublisher
from controller.runtime.client import ResourceClient
from controller.runtime.clock import Clock
from controller.runtime.election import LeaseRecord, Role
from controller.runtime.informer import Informer
from controller.runtime.leader import LEASES, LeaderElector, LeaseLock
from controller.runtime.manager import Manager
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.transport import Transport
from controller.settings import FIELD_MANAGER, OperatorSettings

LEASE = "agentrollout-leader"
"""Name of the Lease of whoever leads; a replica's report is ``agentrollout-replica-<identity>``."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """This replica among the others.

    Attributes:
        elector: Takes part in the election.
        fleet: The routers of all replicas.
        reporter: Tells the leader of this replica's routers.
        leases: Follows the Lease of the leader.
        reports: Follows the reports.
    """

    elector: LeaderElector
    fleet: Fleet
    reporter: FleetReporter
    leases: Informer[LeaseRecord]
    reports: Informer[Report]

    @classmethod
    def of(
        cls,
        settings: OperatorSettings,
        transport: Transport,
        router: TrafficRouter,
        publisher: TrafficPublisher,
        clock: Clock,
        metrics: RuntimeMetrics,
    ) -> Self:
        """All parts, connected, not yet running."""

        def lock(part: str, name: str) -> LeaseLock:
            client = ResourceClient(
                transport,
                LEASES,
                field_manager=FIELD_MANAGER,
                namespace=settings.namespace,
                label_selector=f"{REPLICA_LABEL}={part}",
            )
            return LeaseLock(client, settings.namespace, name, settings.identity, {REPLICA_LABEL: part})

        leading = lock("leader", LEASE)
        elector = LeaderElector(leading, clock=clock, metrics=metrics)
        leases = Informer(leading.client, LeaseRecord.of, clock, metrics=metrics)
        leases.on_change(lambda _key, _old, new: elector.saw(new))
        reporting = lock("replica", f"agentrollout-replica-{settings.identity}")
        reports = Informer(reporting.client, observe_report, clock, metrics=metrics)
        fleet = Fleet(router, publisher, reports.store, identity=settings.identity, clock=clock)
        reporter = FleetReporter(reporting, fleet=fleet, router=router, publisher=publisher, clock=clock)
        elector.on_role(lambda _before, after: reporter.leads(after is Role.LEADING))
        return cls(elector, fleet, reporter, leases, reports)

    def join(self, manager: Manager) -> None:
        """Run all parts."""
        manager.add_informer(self.leases)
        manager.add_informer(self.reports)
        manager.add_runnable("election", self.elector.run)
        manager.add_runnable("reports", self.reporter.run)
