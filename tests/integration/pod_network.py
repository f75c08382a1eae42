"""Agents with addresses of their own, as pods have: servers in a network namespace that the test makes.

EndpointSlices refuse loopback addresses, so what stands behind a Service cannot listen there.
"""

from __future__ import annotations

import ctypes
import os
import random
import secrets
import shutil
import subprocess
import threading
from pathlib import Path
from socket import create_server, socket
from typing import Self

import pytest
from aiohttp import web

PORT = 8080

_CLONE_NEWNET = 0x40000000
_POD_ADDRESSES = 13
"""As many as a /28 has beside the test's own."""


class PodNetwork:
    """A network namespace, reached over a pair of virtual links; everything in it goes with it."""

    def __init__(self) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("endpoints with real addresses need a network namespace: run as root, with iproute2")
        token = secrets.token_hex(3)
        self._name, self._link = f"agents-{token}", f"ar{token}"
        # The range for tests of networks (RFC 2544), in which no machine lives.
        self._prefix = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        self._base = 16 * secrets.randbelow(16)
        self._used = 0

    def __enter__(self) -> Self:
        inside = f"{self._link}p"
        try:
            _ip("netns", "add", self._name)
            _ip("link", "add", self._link, "type", "veth", "peer", "name", inside, "netns", self._name)
            _ip("address", "add", f"{self._address(1)}/28", "dev", self._link)
            _ip("link", "set", self._link, "up")
            for number in range(2, 2 + _POD_ADDRESSES):
                _ip("-n", self._name, "address", "add", f"{self._address(number)}/28", "dev", inside)
            _ip("-n", self._name, "link", "set", inside, "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"this machine lets nobody make network namespaces: {error.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        for arguments in (("link", "delete", self._link), ("netns", "delete", self._name)):
            subprocess.run(["ip", *arguments], check=False, capture_output=True)

    def listen(self) -> socket:
        """A listening socket on the next free address; it belongs to the namespace, whoever serves it."""
        self._used += 1
        address, made = self._address(1 + self._used), list[socket]()
        # Only the thread that asks for it enters a namespace; this one ends before anybody else could use it.
        thread = threading.Thread(target=lambda: made.append(self._listen(address)))
        thread.start()
        thread.join()
        return made[0]

    def _listen(self, address: str) -> socket:
        with Path(f"/var/run/netns/{self._name}").open() as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {self._name}")
        return create_server((address, PORT))

    def _address(self, number: int) -> str:
        return f"{self._prefix}.{self._base + number}"


class Pod:
    """An agent in the network: answers with its version, or with a 500 as often as it is told."""

    def __init__(self, network: PodNetwork, version: str) -> None:
        self.version = version
        self.failures = 0.0
        self.requests = 0
        self._socket = network.listen()
        self.address: str = self._socket.getsockname()[0]
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, _request: web.Request) -> web.Response:
        self.requests += 1
        status = 500 if random.random() < self.failures else 200
        return web.Response(status=status, text=self.version, headers={"x-upstream": self.version})


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
