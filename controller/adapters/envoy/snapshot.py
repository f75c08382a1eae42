"""From traffic tables to xDS resources: a pure function, one bundle per rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.adapters.envoy.clusters import assignments, clusters
from controller.adapters.envoy.listener import listener
from controller.adapters.envoy.naming import owner_name
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Bundle
from controller.adapters.envoy.routes import route_configuration, scopes
from controller.adapters.envoy.tunnels import retained_tunnels, tunnels
from controller.core.traffic import Endpoint, ServicePort, TrafficTable

EndpointsOf = Callable[[ServicePort], tuple[Endpoint, ...]]


def nowhere(_service: ServicePort) -> tuple[Endpoint, ...]:
    """The endpoints of Services where none are known."""
    return ()


def bundle(table: TrafficTable, options: RouterOptions, endpoints: EndpointsOf = nowhere) -> Bundle:
    """The resources of one rollout, which depend on its own table and the endpoints of its Services alone."""
    resources = (
        *clusters(table, options),
        *tunnels(table),
        *scopes(table),
        route_configuration(table, options),
    )
    return Bundle(owner_name(table.key), resources, assignments(table, endpoints), retained_tunnels(table))


def snapshot(
    tables: Iterable[TrafficTable], options: RouterOptions, endpoints: EndpointsOf = nowhere
) -> dict[str, Bundle]:
    """Everything an Envoy with these tables holds, by owner; the listener is an owner of its own."""
    bundles = [listener(options), *(bundle(table, options, endpoints) for table in tables)]
    return {each.owner: each for each in bundles}
