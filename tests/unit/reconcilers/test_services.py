"""Services as backends: what their EndpointSlices say, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.reasons import Reason
from controller.core.snapshot import Endpoints
from controller.core.traffic import Backend, Endpoint, ServicePort
from controller.reconcilers.backends import backend_problem
from controller.reconcilers.grants import Grants
from controller.reconcilers.observed import observe_revision, observe_rollout
from controller.reconcilers.services import (
    BY_SERVICE,
    ServiceEndpoints,
    observe_service,
    observe_slice,
    referring,
    services_of,
)
from controller.runtime.store import Store
from tests.unit.reconcilers.test_traffic import revision, rollout

Raw = dict[str, Any]
AGENT = ServicePort("shop/agent", 80)

LEAVING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}
UNREADY = {"ready": False, "serving": False, "terminating": False}
READY = {"ready": True, "serving": True, "terminating": False}


def service(**spec: Any) -> Raw:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return {
        "metadata": {"name": "agent", "namespace": "shop", "resourceVersion": "1"},
        "spec": {"ports": ports, "ipFamilies": ["IPv4"], **spec},
    }


def slice_of(*endpoints: tuple[str, Raw], name: str = "agent-x", version: int = 1, **fields: Any) -> Raw:
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "resourceVersion": str(version),
            "labels": {"kubernetes.io/service-name": "agent"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": state} for address, state in endpoints],
        **fields,
    }


class World:
    def __init__(self, *slices: Raw, service: Raw | None = None) -> None:
        self.services = Store(observe_service)
        self.slices = Store(observe_slice, indexers={BY_SERVICE: lambda found: (found.service,)})
        self.known = ServiceEndpoints(self.services, self.slices)
        self.changed: list[str] = []
        self.known.on_change(self.changed.append)
        if service:
            self.services.applied("shop/agent", service)
        for each in slices:
            self.see(each)

    def see(self, raw: Raw) -> None:
        self.slices.applied(f"shop/{raw['metadata']['name']}", raw)

    @property
    def addresses(self) -> list[str]:
        return [f"{each.address}:{each.port}" for each in self.known.endpoints(AGENT)]


def test_ready_endpoints_take_the_requests_at_the_port_of_their_slice() -> None:
    world = World(
        slice_of(("10.0.0.2", READY), ("10.0.0.1", READY), ("10.0.0.3", UNREADY)), service=service()
    )
    assert world.known.endpoints(AGENT) == (Endpoint("10.0.0.1", 8080), Endpoint("10.0.0.2", 8080))
    assert world.known.summary(AGENT) == Endpoints("agent", ready=2, total=3)
    assert world.known.problem(AGENT) is None


@pytest.mark.parametrize("conditions", [{}, {"ready": True}, {"serving": True}])
def test_what_is_not_said_about_an_endpoint_counts_as_ready(conditions: Raw) -> None:
    assert World(slice_of(("10.0.0.1", conditions)), service=service()).addresses == ["10.0.0.1:8080"]


def test_endpoints_that_terminate_serve_only_where_nothing_else_is_left() -> None:
    world = World(slice_of(("10.0.0.1", LEAVING), ("10.0.0.2", READY), ("10.0.0.3", GONE)), service=service())
    assert world.addresses == ["10.0.0.2:8080"]
    assert world.known.summary(AGENT) == Endpoints("agent", ready=1, total=1)
    world.see(slice_of(("10.0.0.1", LEAVING), ("10.0.0.2", UNREADY), ("10.0.0.3", GONE), version=2))
    assert world.addresses == ["10.0.0.1:8080"]
    assert world.known.summary(AGENT) == Endpoints("agent", ready=0, total=1)


def test_several_slices_are_one_and_an_endpoint_in_two_of_them_counts_once() -> None:
    world = World(
        slice_of(("10.0.0.1", READY), ("10.0.0.2", UNREADY)),
        slice_of(("10.0.0.2", READY), name="agent-y"),
        service=service(),
    )
    assert world.addresses == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert world.known.summary(AGENT) == Endpoints("agent", ready=2, total=2)


def test_of_a_service_with_two_families_the_first_is_taken() -> None:
    both = (
        slice_of(("10.0.0.1", READY)),
        slice_of(("fd12::1", READY), name="agent-6", addressType="IPv6"),
    )
    assert World(*both, service=service(ipFamilies=["IPv6", "IPv4"])).addresses == ["fd12::1:8080"]
    assert World(*both, service=service()).addresses == ["10.0.0.1:8080"]


def test_the_port_is_found_by_its_name_and_may_be_missing_in_a_slice() -> None:
    ports = [{"name": "metrics", "port": 9090}, {"name": "http", "port": 80}, {"name": "http", "port": 80, "protocol": "UDP"}]  # fmt: skip
    world = World(
        slice_of(("10.0.0.1", READY)),
        slice_of(("10.0.0.2", READY), name="other", ports=[{"name": "metrics", "port": 9090}]),
        service=service(ports=ports),
    )
    assert world.addresses == ["10.0.0.1:8080"]


def test_a_port_without_a_name_is_found_too() -> None:
    unnamed = slice_of(("10.0.0.1", READY), ports=[{"name": "", "port": 9000, "protocol": "TCP"}])
    assert World(unnamed, service=service(ports=[{"port": 80}])).addresses == ["10.0.0.1:9000"]


@pytest.mark.parametrize("address", ["100.100.100.200", "fd00:ec2::254", "169.254.169.254"])
def test_metadata_services_are_no_endpoints_whoever_lists_them(address: str) -> None:
    family = "IPv6" if ":" in address else "IPv4"
    listed = slice_of((address, READY), (address, LEAVING), addressType=family)
    world = World(listed, service=service(ipFamilies=[family]))
    assert world.addresses == []
    assert world.known.summary(AGENT).ready == 0


def test_a_missing_service_or_port_is_named_with_the_way_out() -> None:
    missing = World(slice_of(("10.0.0.1", READY))).known.problem(AGENT)
    assert missing is not None
    assert missing.reason is Reason.REF_NOT_FOUND
    assert missing.message.startswith(
        "spec.agent.code.service.name: there is no Service agent in namespace shop"
    )
    other = World(service=service(ports=[{"port": 8080}, {"port": 9090}])).known.problem(AGENT)
    assert other is not None
    assert (
        other.message
        == "spec.agent.code.service.port: Service agent has no port 80; its TCP ports are 8080, 9090"
    )
    none = World(service=service(ports=[])).known.problem(AGENT)
    assert none is not None
    assert "it has no TCP port" in none.message


def test_every_change_of_a_service_or_its_slices_is_told() -> None:
    world = World()
    world.services.applied("shop/agent", service())
    world.see(slice_of(("10.0.0.1", READY)))
    world.slices.deleted("shop/agent-x", slice_of(version=2))
    world.see(
        slice_of(name="of-nobody")
        | {"metadata": {"name": "of-nobody", "namespace": "shop", "resourceVersion": "3"}}
    )
    assert world.changed == ["shop/agent"] * 3


def with_service(raw: Raw, name: str) -> Raw:
    raw["spec"]["agent"]["code"] = {"service": {"name": name, "port": 80}}
    return raw


def test_the_rollouts_that_a_service_matters_to_are_found() -> None:
    rollouts = Store(observe_rollout, indexers={BY_SERVICE: services_of})
    revisions = Store(observe_revision, indexers={BY_SERVICE: services_of})
    rollouts.applied("shop/agent", with_service(rollout(1), "v2"))
    rollouts.applied("shop/by-url", rollout(1, name="by-url"))
    kept = with_service(revision("1"), "v1")
    kept["spec"]["artifactID"] = _id(kept)
    revisions.applied("shop/agent-1", kept)
    assert referring("shop/v1", rollouts, revisions) == {"shop/agent"}
    assert referring("shop/v2", rollouts, revisions) == {"shop/agent"}
    assert referring("shop/v3", rollouts, revisions) == set()
    observed = rollouts.get("shop/agent")
    assert observed is not None
    assert observed.backend is not None
    assert observed.backend.service == ServicePort("shop/v2", 80)
    assert (observed.backend.host, observed.backend.port) == ("v2.shop.svc", 80)


def _id(raw: Raw) -> str:
    from controller.api.agent import Agent
    from controller.core.artifact import artifact_id

    return artifact_id(Agent.model_validate(raw["spec"]["agent"]))


def test_a_service_needs_no_permission_for_its_name() -> None:
    assert (
        backend_problem(Backend("r", "sha256:1", "agent.shop.svc", 80, service=AGENT), "shop", Grants())
        is None
    )
