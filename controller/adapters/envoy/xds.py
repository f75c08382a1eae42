"""The delta ADS server: carries each node's updates to Envoy and its answers back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import structlog
from envoy.service.discovery.v3 import discovery_pb2

from controller.adapters.envoy.health import add_health, listen, server_credentials
from controller.adapters.envoy.listener import LISTENER_NAME
from controller.adapters.envoy.mutual_tls import TlsFiles
from controller.adapters.envoy.naming import owner_of
from controller.adapters.envoy.node import Node, Update
from controller.adapters.envoy.resources import Bundle

_log = structlog.get_logger(__name__)

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"

_SERVER_OPTIONS = (
    # A reconnecting Envoy lists everything it holds in one message: some 100 bytes a resource.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # An Envoy that vanished without a word must not hold up what is called programmed for long.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Envoy asks every 2 s whether we are there (see bootstrap); by default gRPC takes that for an attack after a few.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    # Two operators must not share a port by accident.
    ("grpc.so_reuseport", 0),
)

_DUMP = "goo.gle/debug"
_DUMP_KEPT = 100
_WORDS_KEPT = 500


class _Stream:
    """One connected Envoy with the signal that something may have to be sent."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.work = asyncio.Event()


class XdsServer:
    """Serves the wanted bundles to every Envoy that connects.

    It listens only between ``start`` and ``stop``: an operator that has not yet read its rollouts must never answer,
    because Envoy would take the empty answer for the truth.
    """

    def __init__(
        self,
        wanted: dict[str, Bundle],
        *,
        on_answer: Callable[[set[str]], None],
        on_nodes: Callable[[], None],
        also: Callable[[Any], None],
    ) -> None:
        """Create the server.

        Args:
            wanted: Bundles by owner; the caller changes it and then calls ``touch``.
            on_answer: Called with the owners that an acknowledgement or refusal concerns.
            on_nodes: Called when an Envoy came or went.
            also: Adds what else Envoys come for to the gRPC server.
        """
        self._wanted = wanted
        self._on_answer = on_answer
        self._on_nodes = on_nodes
        self._also = also
        self._streams: list[_Stream] = []
        self._server: Any = None
        self._stopping = False

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The connected Envoys that have said who they are."""
        return tuple(stream.node for stream in self._streams if stream.node.name)

    def touch(self, owner: str) -> None:
        """Bring the changed bundle of ``owner`` to every Envoy."""
        for stream in self._streams:
            stream.node.touch(owner)
            stream.work.set()

    async def start(self, host: str, port: int, tls: TlsFiles | None = None) -> int:
        """Listen, in clear without ``tls``; the port in use, for when ``port`` was 0.

        Raises:
            OSError: When the address is taken, or a file of ``tls`` cannot be read.
        """
        server = grpc.aio.server(options=_SERVER_OPTIONS)
        add_health(server)
        self._also(server)
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": handler}),)
        )
        bound = await listen(server, host, port, "xDS", server_credentials(tls) if tls else None)
        self._stopping = False
        self._server = server
        return bound

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening and end the streams; Envoys keep serving what they have."""
        self._stopping = True
        for stream in self._streams:
            stream.work.set()
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    async def _serve(self, requests: Any, context: Any) -> None:
        stream = _Stream(Node(self._wanted))
        self._streams.append(stream)
        reader = asyncio.create_task(self._read(stream, requests))
        try:
            while not self._stopping and not reader.done():
                await stream.work.wait()
                stream.work.clear()
                for update in stream.node.updates():
                    await context.write(_response(update))
        finally:
            # Whatever ended the stream, garbage included: a node that is gone must not be waited for.
            self._streams.remove(stream)
            self._on_nodes()
            reader.cancel()
            (ended,) = await asyncio.gather(reader, return_exceptions=True)
            if isinstance(ended, Exception):
                _log.warning("xds_stream_failed", node=stream.node.name, error=str(ended))

    async def _read(self, stream: _Stream, requests: Any) -> None:
        try:
            async for request in requests:
                self._take(stream.node, request)
                stream.work.set()
        finally:
            stream.work.set()

    def _take(self, node: Node, request: Any) -> None:
        if not node.name:
            node.name = request.node.id or "unnamed"
            self._on_nodes()
        node.subscribe(
            request.type_url,
            request.resource_names_subscribe,
            request.resource_names_unsubscribe,
            request.initial_resource_versions,
        )
        owners = {owner_of(name) for name in request.initial_resource_versions}
        if request.response_nonce:
            refusal = _brief(request.error_detail.message) if request.HasField("error_detail") else ""
            owners |= node.acknowledge(request.response_nonce, refusal)
            if refusal and LISTENER_NAME in owners:
                # No rollout is to blame, so none shows it.
                _log.error("listener_refused", node=node.name, error=refusal)
        if owners:
            self._on_answer(owners)


def _brief(words: str) -> str:
    """Envoy's reason, without the copy of the refused resource that it may put in front or say nothing but."""
    reason = " ".join(words.split())
    if _DUMP in reason and " caused by " in reason:
        return reason.rpartition(" caused by ")[2].removesuffix(")")[:_WORDS_KEPT]
    if _DUMP in reason:
        return f"Envoy refused it and cut its own message off before the reason: {reason[:_DUMP_KEPT]}"
    return reason[:_WORDS_KEPT] or "Envoy refused it without a reason"


def _response(update: Update) -> Any:
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=update.type_url,
        nonce=update.nonce,
        removed_resources=update.removed,
        resources=[
            {
                "name": each.name,
                "version": each.version,
                "resource": {"type_url": each.type_url, "value": each.value},
            }
            for each in update.put
        ],
    )
