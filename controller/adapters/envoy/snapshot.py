"""From traffic tables to xDS resources: a pure function, one bundle per rollout."""

from __future__ import annotations

from collections.abc import Iterable

from controller.adapters.envoy.clusters import clusters
from controller.adapters.envoy.listener import listener
from controller.adapters.envoy.naming import owner_name
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Bundle
from controller.adapters.envoy.routes import route_configuration, scopes
from controller.core.traffic import TrafficTable


def bundle(table: TrafficTable, options: RouterOptions) -> Bundle:
    """The resources of one rollout, which depend on its own table alone."""
    resources = (*clusters(table, options), *scopes(table), route_configuration(table, options))
    return Bundle(owner_name(table.key), resources)


def snapshot(tables: Iterable[TrafficTable], options: RouterOptions) -> dict[str, Bundle]:
    """Everything an Envoy with these tables holds, by owner; the listener is an owner of its own."""
    bundles = [listener(options), *(bundle(table, options) for table in tables)]
    return {each.owner: each for each in bundles}
