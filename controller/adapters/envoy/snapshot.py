"""From traffic tables to xDS resources: a pure function, one bundle per rollout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from controller.adapters.envoy.clusters import assign, assignments, clusters
from controller.adapters.envoy.listener import listener
from controller.adapters.envoy.mirrors import addressed, mirrors
from controller.adapters.envoy.naming import owner_name
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.recorder import recorder
from controller.adapters.envoy.resources import Bundle, Resource
from controller.adapters.envoy.routes import route_configuration, scopes
from controller.adapters.envoy.tunnels import retained_tunnels, tunnels
from controller.core.traffic import Endpoint, ServicePort, TrafficTable

EndpointsOf = Callable[[ServicePort], tuple[Endpoint, ...]]


def nowhere(_service: ServicePort) -> tuple[Endpoint, ...]:
    """The endpoints of Services where none are known."""
    return ()


def bundle(table: TrafficTable, options: RouterOptions, endpoints: EndpointsOf = nowhere) -> Bundle:
    """The resources of one rollout, which depend on its own table and the endpoints of its Services alone."""
    table = _possible(table, options)
    resources = (
        *clusters(table, options),
        *mirrors(table, options),
        *tunnels(table),
        *scopes(table),
        route_configuration(table, options),
    )
    assigned = assigned_endpoints(table, options, endpoints)
    return Bundle(owner_name(table.key), resources, assigned, retained_tunnels(table))


def assigned_endpoints(
    table: TrafficTable, options: RouterOptions, endpoints: EndpointsOf
) -> tuple[Resource, ...]:
    """The endpoints of those clusters of one rollout that take theirs from a Service."""
    table = _possible(table, options)
    return (*assignments(table, endpoints), *assign(addressed(table), endpoints))


def shared(options: RouterOptions) -> tuple[Bundle, ...]:
    """What belongs to no rollout: the listener and, where there is one, the recorder."""
    return (listener(options), *recorder(options))


def _possible(table: TrafficTable, options: RouterOptions) -> TrafficTable:
    """Nobody is sampled where nobody records."""
    return table if options.shadow_address else replace(table, shadow=None)


def snapshot(
    tables: Iterable[TrafficTable], options: RouterOptions, endpoints: EndpointsOf = nowhere
) -> dict[str, Bundle]:
    """Everything an Envoy with these tables holds, by owner; what is shared has owners of its own."""
    bundles = [*shared(options), *(bundle(table, options, endpoints) for table in tables)]
    return {each.owner: each for each in bundles}
