"""Routers and operators know each other by certificates, with real Envoys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.mutual_tls import TlsFiles, XdsTls, secrets
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.router import EnvoyRouter
from devkit.envoy import Envoy
from devkit.process import LOOPBACK, free_port
from tests.integration.certificates import Authority
from tests.integration.envoy_lab import Agent, backend, eventually, fetch, table

NAME = "operators.example"


def files(authority: Authority, name: str, *, file: str, ca: Path | None = None) -> TlsFiles:
    cert, key = authority.issue(name, file=file)
    return TlsFiles(str(cert), str(key), str(ca or authority.file))


@asynccontextmanager
async def envoy(
    directory: Path, port: int, tls: TlsFiles | None, *, server_name: str = NAME
) -> AsyncIterator[Envoy]:
    """A router that looks for its operator there."""
    router = Envoy(_bootstrap(directory, port, tls, server_name), wait_live=False)
    try:
        await asyncio.to_thread(router.start)
        yield router
    finally:
        await asyncio.to_thread(router.close)


def _bootstrap(directory: Path, port: int, tls: TlsFiles | None, server_name: str) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    xds_tls = XdsTls(tls, server_name, str(directory)) if tls else None
    for name, content in secrets(xds_tls).items() if xds_tls else ():
        (directory / name).write_text(json.dumps(content))
    return bootstrap(directory.name, operators=[(LOOPBACK, port)], xds_tls=xds_tls)


class Operator:
    """An operator that serves one agent."""

    def __init__(self, agent: Agent) -> None:
        self.user_port = free_port()
        self.port = 0
        self._agent = agent
        self.router = self._new()

    def _new(self) -> EnvoyRouter:
        router = EnvoyRouter(now=lambda: datetime.now(UTC), options=RouterOptions(LOOPBACK, self.user_port))
        router.publish(table(backend("stable", self._agent.port)))
        return router

    async def start(self, tls: TlsFiles) -> None:
        self.port = await self.router.start(LOOPBACK, self.port, tls)

    async def restart(self, tls: TlsFiles) -> None:
        await self.router.stop(0)
        self.router = self._new()
        await self.start(tls)

    async def knows(self, *names: str) -> bool:
        async def routers() -> frozenset[str]:
            return self.router.routers

        return await eventually(routers, lambda found: found == set(names)) == set(names)


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with Agent("stable") as agent:
        operator = Operator(agent)
        yield operator
        await operator.router.stop(0)


async def test_a_router_with_a_certificate_is_served_and_those_without_and_of_others_are_not(
    operator: Operator, tmp_path: Path
) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    await operator.start(files(ours, NAME, file="operator"))
    of_others = files(others, "router", file="router", ca=ours.file)
    async with (
        envoy(tmp_path / "in-clear", operator.port, None),
        envoy(tmp_path / "of-others", operator.port, of_others),
        envoy(tmp_path / "ours-too", operator.port, files(ours, "router", file="router")) as served,
    ):
        assert await operator.knows("ours-too")
        await asyncio.to_thread(served.wait_live)
        assert (await fetch(operator.user_port)).served_by == "stable"
        assert operator.router.routers == {"ours-too"}


async def test_a_router_believes_no_operator_of_another_authority_or_name(
    operator: Operator, tmp_path: Path
) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    await operator.start(files(ours, NAME, file="operator"))
    known = files(ours, "router", file="router")
    misled = replace(known, ca_file=str(others.file))
    async with (
        envoy(tmp_path / "other-authority", operator.port, misled),
        envoy(tmp_path / "other-name", operator.port, known, server_name="someone.example"),
        envoy(tmp_path / "right", operator.port, known) as right,
    ):
        assert await operator.knows("right")
        await asyncio.to_thread(right.wait_live)
        assert operator.router.routers == {"right"}


async def test_renewed_certificates_of_another_authority_are_read_by_both_sides_without_a_restart(
    operator: Operator, tmp_path: Path
) -> None:
    before, after = Authority(tmp_path / "before"), Authority(tmp_path / "after")
    mounted = {side: tmp_path / f"{side}-tls" for side in ("operator", "router")}
    for side, directory in mounted.items():
        mount(directory, files(before, NAME if side == "operator" else "router", file=side))
    of_operator, of_router = (named(directory) for directory in mounted.values())
    await operator.start(of_operator)
    async with envoy(tmp_path / "old", operator.port, of_router) as old:
        assert await operator.knows("old")
        for side, directory in mounted.items():
            mount(directory, files(after, NAME if side == "operator" else "router", file=side))
        # The server has read the new files: who comes with a certificate of the new authority is served.
        new = files(after, "router", file="another")
        async with envoy(tmp_path / "new", operator.port, new):
            assert await operator.knows("old", "new")
        # And so has the router, which comes again with the new one.
        await operator.restart(of_operator)
        assert await operator.knows("old")
        assert old.process.running


def named(directory: Path) -> TlsFiles:
    return TlsFiles(*(str(directory / name) for name in ("tls.crt", "tls.key", "ca.crt")))


def mount(directory: Path, content: TlsFiles) -> None:
    """Files as a kubelet mounts a Secret: links into a directory that is replaced as a whole."""
    directory.mkdir(exist_ok=True)
    version = directory / f"..{len(list(directory.iterdir()))}"
    version.mkdir()
    for name, source in zip(
        ("tls.crt", "tls.key", "ca.crt"), (content.cert_file, content.key_file, content.ca_file), strict=True
    ):
        (version / name).write_bytes(Path(source).read_bytes())
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(Path("..data") / name)
    fresh = directory / "..data_tmp"
    fresh.symlink_to(version.name)
    fresh.replace(directory / "..data")
