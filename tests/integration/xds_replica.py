"""A process that serves xDS as a replica of the operator does: ``python -m tests.integration.xds_replica XDS USERS AGENT``."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.router import EnvoyRouter
from devkit.process import LOOPBACK
from tests.integration.envoy_lab import backend, table


async def serve(xds: int, users: int, agent: int) -> None:
    router = EnvoyRouter(now=lambda: datetime.now(UTC), options=RouterOptions(LOOPBACK, users))
    router.publish(table(backend("only", agent)))
    await router.start(LOOPBACK, xds)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
