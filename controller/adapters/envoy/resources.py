"""An xDS resource as it is sent: packed, with a version that is the hash of its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

_PREFIX = "type.googleapis.com/"
CLUSTER = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
ENDPOINTS = f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = f"{_PREFIX}envoy.config.listener.v3.Listener"
SECRET = f"{_PREFIX}envoy.extensions.transport_sockets.tls.v3.Secret"
SCOPE = f"{_PREFIX}envoy.config.route.v3.ScopedRouteConfiguration"
ROUTE = f"{_PREFIX}envoy.config.route.v3.RouteConfiguration"

SENDING_ORDER = (CLUSTER, ENDPOINTS, LISTENER, SECRET, SCOPE, ROUTE)
"""What is referred to goes out before what refers to it, but for what Envoy asks for only then."""

WILDCARD_TYPES = frozenset({CLUSTER, LISTENER, SCOPE})
"""Types of which Envoy takes all there are; the others it asks for by name, once a cluster, listener or scope has."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One packed resource.

    Attributes:
        type_url: xDS type.
        name: Name, unique within the type.
        version: Hash of the content, so that a restarted operator gives an unchanged resource the same version.
        value: Serialised message.
    """

    type_url: str
    name: str
    version: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """All resources of one owner: a rollout, or the listener.

    Attributes:
        owner: Prefix of the names.
        resources: What makes the split, in sending order.
        endpoints: The assignment of each cluster that takes its endpoints from a Service, under the cluster's name. They
            change with the pods and are no part of the split.
        retained: What nothing waits for and no route needs, but what Envoy must not lose while old answers go on.
    """

    owner: str
    resources: tuple[Resource, ...]
    endpoints: tuple[Resource, ...] = ()
    retained: tuple[Resource, ...] = ()

    def of_type(self, type_url: str) -> tuple[Resource, ...]:
        """The resources of one xDS type."""
        return tuple(
            each for each in (*self.resources, *self.endpoints, *self.retained) if each.type_url == type_url
        )


def overwriting(name: str, value: str) -> dict[str, Any]:
    """A header that a request gets, whatever it had."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def pack(message: Any) -> AnyMessage:
    """``message`` as a protobuf Any whose bytes depend on the content alone."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def resource(name: str, message: Any) -> Resource:
    """``message`` ready to be sent under ``name``."""
    packed = pack(message)
    version = hashlib.sha256(packed.value).hexdigest()[:16]
    return Resource(packed.type_url, name, version, packed.value)
