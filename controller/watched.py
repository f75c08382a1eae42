"""What the operator follows in the API server: one watch a kind, slim projections of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from controller.api.agent import SourceKind
from controller.reconcilers.actions import ACTIONS, BY_ROLLOUT, ObservedAction, observe_action
from controller.reconcilers.kills import BY_FLAG, flags_of
from controller.reconcilers.observed import (
    REVISIONS,
    ROLLOUTS,
    ObservedRevision,
    ObservedRollout,
    hosts_of,
    observe_revision,
    observe_rollout,
    references_of,
)
from controller.reconcilers.services import (
    BY_SERVICE,
    ENDPOINT_SLICES,
    SERVICES,
    ObservedService,
    ObservedSlice,
    observe_service,
    observe_slice,
    services_of,
)
from controller.reconcilers.sources import BY_SOURCE, CONFIG_MAPS, SECRETS, Sources, SourceWatch
from controller.reconcilers.switch_maps import SWITCH_LABEL, ObservedSwitches, observe_switches
from controller.reconcilers.traffic import BY_HOST, BY_OWNER
from controller.runtime.client import ResourceClient
from controller.runtime.clock import Clock
from controller.runtime.informer import Informer
from controller.runtime.manager import Manager
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.store import Store
from controller.runtime.transport import Transport
from controller.runtime.watcher import Watcher
from controller.settings import FIELD_MANAGER, OperatorSettings

BY_ARTIFACT = "artifact"


@dataclass(frozen=True, slots=True)
class Watched:
    """Everything that is followed.

    Attributes:
        rollout_client: Of AgentRollouts.
        revision_client: Of AgentRevisions.
        rollouts: Follows AgentRollouts.
        revisions: Follows AgentRevisions.
        services: Follows Services.
        slices: Follows EndpointSlices.
        action_client: Of RolloutActions.
        actions: Follows RolloutActions.
        sources: What references lead to.
        source_watches: Follow ConfigMaps and Secrets once someone refers to one.
        switches: Follows the ConfigMaps that are labelled as kill switches.
    """

    rollout_client: ResourceClient
    revision_client: ResourceClient
    rollouts: Informer[ObservedRollout]
    revisions: Informer[ObservedRevision]
    services: Informer[ObservedService]
    slices: Informer[ObservedSlice]
    action_client: ResourceClient
    actions: Informer[ObservedAction]
    sources: Sources
    source_watches: tuple[SourceWatch, ...]
    switches: Informer[ObservedSwitches]

    @classmethod
    def of(
        cls, settings: OperatorSettings, transport: Transport, clock: Clock, metrics: RuntimeMetrics
    ) -> Self:
        """All informers, not yet running."""
        rollout_client = ResourceClient(transport, ROLLOUTS, field_manager=FIELD_MANAGER)
        revision_client = ResourceClient(transport, REVISIONS, field_manager=FIELD_MANAGER)
        rollouts, revisions = _informers(rollout_client, revision_client, clock, metrics)
        services, slices = _service_informers(transport, clock, metrics)
        sources, watches = _sources(settings, transport, rollouts.store, clock, metrics)
        action_client = ResourceClient(transport, ACTIONS, field_manager=FIELD_MANAGER)
        actions = Informer(
            action_client,
            observe_action,
            clock,
            indexers={BY_ROLLOUT: lambda observed: (observed.rollout,)},
            metrics=metrics,
        )
        labelled = ResourceClient(
            transport, CONFIG_MAPS, field_manager=FIELD_MANAGER, label_selector=SWITCH_LABEL
        )
        return cls(
            rollout_client,
            revision_client,
            rollouts,
            revisions,
            services,
            slices,
            action_client,
            actions,
            sources,
            tuple(watches),
            Informer(labelled, observe_switches, clock, metrics=metrics),
        )

    def join(self, manager: Manager) -> None:
        """Run all of them."""
        manager.add_informer(self.rollouts)
        manager.add_informer(self.revisions)
        manager.add_informer(self.services)
        manager.add_informer(self.slices)
        # Where its CRD is older than the operator and lacks them, everything else goes on.
        manager.add_runnable("actions", self.actions.run)
        manager.add_informer(self.switches)
        for watch in self.source_watches:
            manager.add_runnable(watch.name, watch.run)


def _informers(
    rollouts: ResourceClient, revisions: ResourceClient, clock: Clock, metrics: RuntimeMetrics
) -> tuple[Informer[ObservedRollout], Informer[ObservedRevision]]:
    by_what_they_name = {
        BY_HOST: hosts_of,
        BY_SERVICE: services_of,
        BY_SOURCE: references_of,
        BY_FLAG: flags_of,
    }
    by_owner_and_artifact: dict[str, Callable[[ObservedRevision], Iterable[str]]] = {
        BY_OWNER: lambda observed: (observed.owner,),
        BY_ARTIFACT: lambda observed: (observed.revision.artifact_id,),
        BY_SERVICE: services_of,
    }
    return (
        Informer(rollouts, observe_rollout, clock, indexers=by_what_they_name, metrics=metrics),
        Informer(revisions, observe_revision, clock, indexers=by_owner_and_artifact, metrics=metrics),
    )


def _service_informers(
    transport: Transport, clock: Clock, metrics: RuntimeMetrics
) -> tuple[Informer[ObservedService], Informer[ObservedSlice]]:
    """Of all namespaces' Services and endpoints only a few words each are kept; see docs/adr/0012."""
    services = ResourceClient(transport, SERVICES, field_manager=FIELD_MANAGER)
    slices = ResourceClient(transport, ENDPOINT_SLICES, field_manager=FIELD_MANAGER)
    by_service: dict[str, Callable[[ObservedSlice], Iterable[str]]] = {
        BY_SERVICE: lambda observed: (observed.service,) if observed.service else ()
    }
    return (
        Informer(services, observe_service, clock, metrics=metrics),
        Informer(slices, observe_slice, clock, indexers=by_service, metrics=metrics),
    )


def _sources(
    settings: OperatorSettings,
    transport: Transport,
    rollouts: Store[ObservedRollout],
    clock: Clock,
    metrics: RuntimeMetrics,
) -> tuple[Sources, list[SourceWatch]]:
    """What references lead to; Secrets are neither read nor followed without a key for their digests."""
    clients = {
        kind: ResourceClient(transport, resource, field_manager=FIELD_MANAGER, metadata_only=True)
        for kind, resource in ((SourceKind.CONFIG_MAP, CONFIG_MAPS), (SourceKind.SECRET, SECRETS))
        if kind is SourceKind.CONFIG_MAP or settings.secret_key
    }
    sources = Sources(clients, rollouts, settings.secret_key)
    return sources, [
        SourceWatch(kind, Watcher(client, clock, metrics=metrics), sources, rollouts)
        for kind, client in clients.items()
    ]
