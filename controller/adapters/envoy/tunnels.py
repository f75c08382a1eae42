"""Internal listeners: where the answers of a candidate that is taken back are to be cut, they come through one.

Of all that xDS can take from an Envoy, only a listener takes the connections with it that it has accepted: answers
outlive routes, clusters and endpoints. So a candidate's cluster leads to a listener inside Envoy, which passes the
bytes on to the agents.
"""

from __future__ import annotations

from datetime import timedelta

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from controller.adapters.envoy.naming import tunnel_name
from controller.adapters.envoy.resources import Resource, pack, resource
from controller.core.traffic import TrafficTable

_BUFFER_BYTES = 65_536


def tunnels(table: TrafficTable) -> tuple[Resource, ...]:
    """The listener that the candidate's clusters lead to, if it can be cut."""
    if not table.can_cut or table.candidate is None:
        return ()
    return (_listener(table, table.candidate.revision),)


def retained_tunnels(table: TrafficTable) -> tuple[Resource, ...]:
    """The listeners through which old answers still come: stable's, and those of a candidate that drains.

    Stable began them before its promotion, the other before it was taken off. They go with the version, which is when the next one is promoted, or taken off.
    """
    if not table.can_cut:
        return ()
    served = table.candidate.revision if table.candidate else ""
    old = dict.fromkeys((table.stable.revision, table.draining))
    return tuple(_listener(table, revision) for revision in old if revision and revision != served)


def _listener(table: TrafficTable, revision: str) -> Resource:
    name = tunnel_name(table.key, revision)
    proxy = tcp_proxy_pb2.TcpProxy(
        stat_prefix="agentrollout",
        cluster=name,
        # The limits are those of the requests.
        idle_timeout=timedelta(0),
    )
    message = listener_pb2.Listener(
        name=name,
        internal_listener={},
        per_connection_buffer_limit_bytes={"value": _BUFFER_BYTES},
        # Each connection here belongs to one of a user, which is counted.
        ignore_global_conn_limit=True,
        filter_chains=[
            {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": pack(proxy)}]}
        ],
    )
    return resource(name, message)
