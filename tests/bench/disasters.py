"""What can happen to a delivery lab, each with its end: afterwards everything runs again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from controller.runtime.errors import ApiError
from devkit.controlplane import ControlPlane
from devkit.process import Process
from tests.integration.delivery_lab import DeliveryLab, Replica

LEASE_SECONDS = 15.0
QUIET_SECONDS = 3.0
"""What users of a restarted router met so long after its restart is the restart's doing."""


@dataclass
class Disasters:
    """Breaks a lab, one thing at a time.

    Attributes:
        lab: Two replicas, two routers.
        control_plane: Its API server.
        random: Chooses durations.
        restarts: When routers were down, as unix seconds from and to.
    """

    lab: DeliveryLab
    control_plane: ControlPlane
    random: Random
    restarts: list[tuple[float, float]] = field(default_factory=list)

    async def leader_killed(self) -> None:
        """SIGKILL; started again after a while."""
        await self._replica_gone(await self._leader(), self.random.uniform(1, 20))

    async def leader_killed_and_restarted_at_once(self) -> None:
        """SIGKILL; as a kubelet would, started again at once."""
        await self._replica_gone(await self._leader(), 0)

    async def follower_killed(self) -> None:
        """SIGKILL of the replica that does not lead."""
        leader = await self._leader()
        follower = next(each for each in self.lab.replicas if each is not leader)
        await self._replica_gone(follower, self.random.uniform(0, 20))

    async def leader_paused_past_its_lease(self) -> None:
        """SIGSTOP until another replica must lead, then SIGCONT."""
        await _paused((await self._leader()).process, LEASE_SECONDS + self.random.uniform(3, 10))

    async def both_operators_restarted_at_once(self) -> None:
        """SIGKILL of both, then both started together."""
        for replica in self.lab.replicas:
            await asyncio.to_thread(replica.process.kill)
        await asyncio.sleep(self.random.uniform(0, 5))
        await asyncio.gather(*(asyncio.to_thread(replica.start) for replica in self.lab.replicas))

    async def api_server_gone_30_seconds(self) -> None:
        """SIGKILL, and started again half a minute later."""
        await self._api_server_gone(30)

    async def api_server_gone_for_a_moment(self) -> None:
        """SIGKILL, and started again soon."""
        await self._api_server_gone(self.random.uniform(0, 8))

    async def api_server_hangs(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        await _paused(self.control_plane.api_server, self.random.uniform(3, 25))

    async def router_restarted(self) -> None:
        """SIGKILL of one router; its memory and counters are gone."""
        envoy, began = self.random.choice(self.lab.envoys), time.time()
        await asyncio.to_thread(envoy.process.kill)
        await asyncio.to_thread(envoy.process.start)
        await asyncio.to_thread(envoy.wait_live)
        self.restarts.append((began, time.time() + QUIET_SECONDS))

    async def prometheus_gone(self) -> None:
        """SIGKILL, and started again."""
        process = self.lab.prometheus.process
        await asyncio.to_thread(process.kill)
        await asyncio.sleep(self.random.uniform(1, 20))
        await asyncio.to_thread(process.start)

    async def prometheus_hangs(self) -> None:
        """SIGSTOP: queries are taken and not answered."""
        await _paused(self.lab.prometheus.process, self.random.uniform(3, 20))

    def caused_by_a_restart(self, at: float) -> bool:
        """Whether a router was down at this instant, or just back."""
        return any(begin <= at <= end for begin, end in self.restarts)

    async def _leader(self) -> Replica:
        async with asyncio.timeout(90):
            while True:
                try:
                    return await self.lab.leader()
                except (ApiError, StopIteration):  # between two leaders, or before the API server is back
                    await asyncio.sleep(0.2)

    async def _replica_gone(self, replica: Replica, seconds: float) -> None:
        await asyncio.to_thread(replica.process.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(replica.start)

    async def _api_server_gone(self, seconds: float) -> None:
        control_plane = self.control_plane
        await asyncio.to_thread(control_plane.api_server.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(control_plane.api_server.start)
        await asyncio.to_thread(control_plane.wait_ready)


async def _paused(process: Process, seconds: float) -> None:
    process.pause()
    await asyncio.sleep(seconds)
    process.resume()


Disaster = Callable[[Disasters], Awaitable[None]]

AT_EVERY_STAGE: tuple[Disaster, ...] = (
    Disasters.leader_killed,
    Disasters.leader_paused_past_its_lease,
    Disasters.api_server_gone_30_seconds,
    Disasters.router_restarted,
    Disasters.both_operators_restarted_at_once,
)
ALL: tuple[Disaster, ...] = (
    *AT_EVERY_STAGE,
    Disasters.leader_killed_and_restarted_at_once,
    Disasters.follower_killed,
    Disasters.api_server_gone_for_a_moment,
    Disasters.api_server_hangs,
    Disasters.prometheus_gone,
    Disasters.prometheus_hangs,
)
