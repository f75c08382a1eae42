"""uvicorn as one part of a process that handles signals itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The manager decides when the process stops."""
        yield


class HttpServer:
    """Serves an application until it is cancelled."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        """Bind at once, so that a taken port is an error at start and port 0 is known before serving.

        Raises:
            OSError: If the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=128)
        self.port = int(self._socket.getsockname()[1])
        """The port that was bound."""
        self._server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))

    async def run(self) -> None:
        """Serve; on cancellation finish the running answers and close."""
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        finally:
            self._server.should_exit = True
            await serving
            self._socket.close()
