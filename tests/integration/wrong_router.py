"""What makes evidence unsound: a router that is programmed otherwise than told, a balancer that keeps to broken pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

import grpc
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2

from controller.adapters.envoy.health import add_health
from controller.adapters.envoy.resources import ROUTE
from devkit.process import LOOPBACK

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"


class Meddler:
    """Stands between routers and the operator, and exchanges the shares of candidate and stable in every split."""

    def __init__(self, port: int, operator_port: int) -> None:
        self._port, self._operator_port = port, operator_port
        self._server: Any = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server()
        add_health(self._server)
        handler = grpc.stream_stream_rpc_method_handler(
            self._relay,
            request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": handler}),)
        )
        self._server.add_insecure_port(f"{LOOPBACK}:{self._port}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    async def _relay(self, requests: AsyncIterator[Any], _: object) -> AsyncIterator[Any]:
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{self._operator_port}") as channel:
            method = channel.stream_stream(
                f"/{_SERVICE}/DeltaAggregatedResources",
                request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
                response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
            )
            async for response in method(requests):
                if response.type_url == ROUTE:
                    for each in response.resources:
                        _exchange(each.resource)
                yield response


def _exchange(packed: Any) -> None:
    configuration = route_pb2.RouteConfiguration.FromString(packed.value)
    for route in configuration.virtual_hosts[0].routes:
        candidate, *others = route.route.weighted_clusters.clusters
        if others:
            share, rest = candidate.weight.value, others[0].weight.value
            candidate.weight.value, others[0].weight.value = rest, share
    packed.value = configuration.SerializeToString()


class Balancer:
    """Takes turns with connections, as Services do without a proxy that knows HTTP: a connection keeps to its pod."""

    def __init__(self, *pods: int) -> None:
        """Ports of the pods; more may be added later."""
        self.pods = list(pods)
        self.port = 0
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._turn += 1
        far_reader, far_writer = await asyncio.open_connection(
            LOOPBACK, self.pods[self._turn % len(self.pods)]
        )
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        finally:
            for each in (writer, far_writer):
                self._writers.discard(each)
                each.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
    writer.transport.abort()
