"""Small servers of flags, for clients that are real: OFREP by its description, flagd by its official protos."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import grpc
from aiohttp import web
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from devkit.process import LOOPBACK, free_port

Flags = dict[str, Any]


class OfrepServer:
    """``POST /ofrep/v1/evaluate/flags``, as the OpenAPI description of OFREP has it."""

    def __init__(self, **flags: Any) -> None:
        self.flags: Flags = flags
        self.port = free_port()
        self.requests: list[tuple[Mapping[str, str], Any]] = []
        self.respond: web.Response | None = None
        self.hold: asyncio.Event | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def set(self, **flags: Any) -> None:
        self.flags = {**self.flags, **flags}

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/ofrep/v1/evaluate/flags", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.headers, await request.json()))
        flags = self.flags
        if self.hold is not None:
            await self.hold.wait()
        if self.respond is not None:
            return web.Response(
                status=self.respond.status, text=self.respond.text, headers=self.respond.headers
            )
        found = [
            {"key": key, "value": value, "reason": "STATIC", "variant": "v", "metadata": {}}
            for key, value in flags.items()
        ]
        return web.json_response({"flags": found, "metadata": {}})


class FlagdServer(sync_pb2_grpc.FlagSyncServiceServicer):
    """``flagd.sync.v1.FlagSyncService``: a stream of configurations, and all flags when asked."""

    def __init__(self, **flags: Any) -> None:
        self.flags: Flags = flags
        self.port = free_port()
        self.fetches = True
        self.streams = True
        self.connected = self.asked = 0
        self.whole = ""
        self._changed: set[asyncio.Event] = set()
        self._server: Any = None

    def set(self, **flags: Any) -> None:
        self.flags = {**self.flags, **flags}
        for event in self._changed:
            event.set()

    def configuration(self) -> str:
        """As flagd sends it; a dict stands for a whole flag, and ``whole`` for all of it."""
        if self.whole:
            return self.whole
        found = {
            key.replace("_", "-"): value
            if isinstance(value, dict)
            else {"state": "ENABLED", "variants": {"v": value}, "defaultVariant": "v"}
            for key, value in self.flags.items()
        }
        return json.dumps({"flags": found})

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        sync_pb2_grpc.add_FlagSyncServiceServicer_to_server(self, self._server)
        assert self._server.add_insecure_port(f"{LOOPBACK}:{self.port}") == self.port
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def SyncFlags(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802  the proto's name
        changed = asyncio.Event()
        self._changed.add(changed)
        self.connected += 1
        try:
            while True:
                changed.clear()
                if self.streams:
                    yield sync_pb2.SyncFlagsResponse(flag_configuration=self.configuration())
                await changed.wait()
        finally:
            self._changed.discard(changed)
            self.connected -= 1

    async def FetchAllFlags(self, request: Any, context: Any) -> Any:  # noqa: N802  likewise
        self.asked += 1
        if not self.fetches:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
        return sync_pb2.FetchAllFlagsResponse(flag_configuration=self.configuration())

    async def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802  likewise
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "deprecated")
