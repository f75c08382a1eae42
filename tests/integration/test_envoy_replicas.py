"""A real Envoy and two processes that serve it: one is killed or hangs, and the other takes over."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from controller.adapters.envoy.bootstrap import bootstrap
from devkit.envoy import Envoy
from devkit.process import LOOPBACK, Process, free_port
from tests.integration.envoy_lab import Agent, eventually, fetch

REPOSITORY = Path(__file__).parents[2]


@asynccontextmanager
async def two_replicas(directory: Path) -> AsyncIterator[tuple[int, dict[str, Process]]]:
    """The port of users, and the replicas by the name of the agent that each of them sends all users to."""
    users, ports = free_port(), [free_port(), free_port()]
    async with Agent("one") as one, Agent("two") as two:
        replicas = {}
        with ExitStack() as stack:
            for xds, agent in zip(ports, (one, two), strict=True):
                command = [sys.executable, "-m", "tests.integration.xds_replica"]
                command += [str(port) for port in (xds, users, agent.port)]
                process = Process(agent.name, command, directory, env={"PYTHONPATH": str(REPOSITORY)})
                stack.callback(process.stop)
                process.start()
                replicas[agent.name] = process
            config = bootstrap("router-0", operators=[(LOOPBACK, port) for port in ports])
            envoy = Envoy(config, wait_live=False)
            stack.callback(envoy.close)
            await asyncio.to_thread(envoy.start)
            await asyncio.to_thread(envoy.wait_live)
            yield users, replicas


@pytest.mark.parametrize("fault", [Process.pause, Process.kill], ids=["hangs", "killed"])
async def test_a_router_goes_to_the_other_replica_and_serves_all_the_while(
    fault: Callable[[Process], None], tmp_path: Path
) -> None:
    async with two_replicas(tmp_path) as (port, replicas):
        statuses: set[int] = set()

        async def served_by() -> str:
            answer = await fetch(port)
            statuses.add(answer.status)
            return answer.served_by

        first = await served_by()
        (second,) = set(replicas) - {first}
        await asyncio.to_thread(fault, replicas[first])

        assert await eventually(served_by, second.__eq__, timeout=20) == second
        assert statuses == {200}
        replicas[first].resume()
