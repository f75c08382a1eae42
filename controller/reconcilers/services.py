"""Services as backends: which of their endpoints take requests now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from controller.api.reasons import Reason
from controller.core.snapshot import Endpoints, Problem
from controller.core.traffic import Endpoint, ServicePort
from controller.reconcilers.addresses import is_never_allowed
from controller.reconcilers.observed import ObservedRevision, ObservedRollout
from controller.runtime.resource import Resource, object_key
from controller.runtime.store import Store

SERVICES = Resource("", "v1", "services", "Service")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")

BY_SERVICE = "service"

_SERVICE_LABEL = "kubernetes.io/service-name"


class EndpointState(IntEnum):
    """Whether an endpoint takes requests; of several entries for one address the highest counts."""

    UNREADY = 0
    """Not, or not yet."""
    LEAVING = 1
    """It terminates and still answers: good enough where nothing else is left, as kube-proxy sees it."""
    READY = 2
    """Yes."""


@dataclass(frozen=True, slots=True)
class ObservedService:
    """A Service, reduced to what leads to its endpoints.

    Attributes:
        ports: Number and name of each TCP port.
        family: ``IPv4`` or ``IPv6``: of a Service with both, all users take the first.
        selector: Label selector of its pods; empty if it has none.
    """

    ports: tuple[tuple[int, str], ...]
    family: str
    selector: str


@dataclass(frozen=True, slots=True)
class ObservedSlice:
    """An EndpointSlice; those that are on their way out and answer no more are left out.

    Attributes:
        service: Key of the Service; empty if it belongs to none.
        family: ``IPv4`` or ``IPv6``.
        ports: Name and number of each TCP port.
        endpoints: Address, state and pod (its name, if it is one) of each endpoint.
    """

    service: str
    family: str
    ports: tuple[tuple[str, int], ...]
    endpoints: tuple[tuple[str, EndpointState, str], ...]


def observe_service(raw: dict[str, Any]) -> ObservedService:
    """The projection of a Service."""
    spec = raw.get("spec") or {}
    ports = [each for each in spec.get("ports") or () if each.get("protocol", "TCP") == "TCP"]
    families = spec.get("ipFamilies") or ("IPv4",)
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    return ObservedService(
        tuple((each["port"], each.get("name", "")) for each in ports), families[0], selector
    )


def observe_slice(raw: dict[str, Any]) -> ObservedSlice:
    """The projection of an EndpointSlice."""
    metadata = raw["metadata"]
    service = (metadata.get("labels") or {}).get(_SERVICE_LABEL, "")
    if not service:
        return ObservedSlice("", "", (), ())
    ports = [
        each
        for each in raw.get("ports") or ()
        if each.get("protocol", "TCP") == "TCP" and each.get("port") is not None
    ]
    return ObservedSlice(
        object_key(metadata["namespace"], service),
        raw["addressType"],
        tuple((each.get("name") or "", each["port"]) for each in ports),
        tuple(_states(raw.get("endpoints") or ())),
    )


def _states(endpoints: Iterable[dict[str, Any]]) -> Iterator[tuple[str, EndpointState, str]]:
    for each in endpoints:
        address, conditions, target = (
            each["addresses"][0],
            each.get("conditions") or {},
            each.get("targetRef"),
        )
        pod = target.get("name", "") if target and target.get("kind") == "Pod" else ""
        ready = conditions.get("ready", True)
        if ready and not is_never_allowed(address):
            yield address, EndpointState.READY, pod
        elif not conditions.get("terminating", False):
            yield address, EndpointState.UNREADY, pod
        elif conditions.get("serving", ready) and not is_never_allowed(address):
            yield address, EndpointState.LEAVING, pod


def services_of(observed: ObservedRollout | ObservedRevision) -> Iterable[str]:
    """Index function: the Service that the wanted artifact, or a kept one, is behind."""
    backend = observed.backend if isinstance(observed, ObservedRollout) else observed.revision.backend
    return [backend.service.key] if backend and backend.service else []


def referring(service: str, rollouts: Store[ObservedRollout], revisions: Store[ObservedRevision]) -> set[str]:
    """Keys of the rollouts for which the Service ``namespace/name`` matters."""
    wanting = {observed.rollout.metadata.key for observed in rollouts.by_index(BY_SERVICE, service)}
    return wanting | {observed.owner for observed in revisions.by_index(BY_SERVICE, service)}


class ServiceEndpoints:
    """Follows Services and EndpointSlices; an EndpointSource."""

    def __init__(self, services: Store[ObservedService], slices: Store[ObservedSlice]) -> None:
        """Listen to both stores; the slices are to be indexed by ``BY_SERVICE``."""
        self._services = services
        self._slices = slices
        self._listeners: list[Callable[[str], None]] = []
        services.on_change(lambda key, _old, _new: self._changed(key))
        slices.on_change(self._slice_changed)

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(key)`` whenever the endpoints of the Service ``key`` may have changed."""
        self._listeners.append(callback)

    def endpoints(self, service: ServicePort) -> tuple[Endpoint, ...]:
        """The ready endpoints, sorted; where there are none, those that terminate and still answer."""
        states = self._states(service)
        best = max(states.values(), default=EndpointState.UNREADY)
        if best is EndpointState.UNREADY:
            return ()
        return tuple(sorted(endpoint for endpoint, state in states.items() if state is best))

    def summary(self, service: ServicePort) -> Endpoints:
        """How many there are, and how many are ready."""
        states = [state for state in self._states(service).values() if state is not EndpointState.LEAVING]
        return Endpoints(service.name, states.count(EndpointState.READY), len(states))

    def problem(self, service: ServicePort) -> Problem | None:
        """Why the Service cannot be a backend; None if it can."""
        found = self._services.get(service.key)
        if found is None:
            namespace, _, name = service.key.rpartition("/")
            return Problem(
                Reason.REF_NOT_FOUND,
                f"spec.agent.code.service.name: there is no Service {name} in namespace {namespace}; "
                "create it or correct the name",
            )
        numbers = [number for number, _ in found.ports]
        if service.port not in numbers:
            has = f"its TCP ports are {', '.join(map(str, numbers))}" if numbers else "it has no TCP port"
            return Problem(
                Reason.REF_NOT_FOUND,
                f"spec.agent.code.service.port: Service {service.name} has no port {service.port}; {has}",
            )
        return None

    def selector(self, service: str) -> str:
        """Label selector of the pods of the Service ``namespace/name``; empty if it is not there or selects none."""
        found = self._services.get(service)
        return found.selector if found else ""

    def pods(self, service: str) -> frozenset[tuple[str, int]]:
        """Name and state of each pod behind the Service ``namespace/name``, without those on their way out."""
        return frozenset(
            (pod, int(state))
            for each in self._slices.by_index(BY_SERVICE, service)
            for _, state, pod in each.endpoints
            if pod and state is not EndpointState.LEAVING
        )

    def _states(self, service: ServicePort) -> dict[Endpoint, EndpointState]:
        """Every endpoint once: while it moves from one slice to another it may be in both."""
        found = self._services.get(service.key)
        name = dict(found.ports).get(service.port) if found else None
        states: dict[Endpoint, EndpointState] = {}
        if found is None or name is None:
            return states
        for each in self._slices.by_index(BY_SERVICE, service.key):
            port = dict(each.ports).get(name)
            if port is None or each.family != found.family:
                continue
            for address, state, _ in each.endpoints:
                endpoint = Endpoint(address, port)
                states[endpoint] = max(state, states.get(endpoint, state))
        return states

    def _slice_changed(self, _key: str, old: ObservedSlice | None, new: ObservedSlice | None) -> None:
        for service in {each.service for each in (old, new) if each and each.service}:
            self._changed(service)

    def _changed(self, service: str) -> None:
        for listener in self._listeners:
            listener(service)
