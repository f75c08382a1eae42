"""Many rollouts: made, changed and followed by the thousand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.reconcilers.observed import ROLLOUTS
from controller.runtime.client import ResourceClient
from controller.runtime.clock import SystemClock
from controller.runtime.informer import Informer
from controller.runtime.transport import KubernetesTransport
from tests.integration.delivery_lab import DeliveryLab, manifest, stage

_SIDE_BY_SIDE = 24
_PATIENCE = 1800.0

Raw = dict[str, Any]

_USUAL: Raw = {
    # The agents load their prompts by header, so that all rollouts can share a few of them.
    "delivery": "Header",
    "stages": [stage("50%", seconds=36_000), stage("100%")],
    "analysis": {"clustering": 1, "metrics": [{"name": "errors"}]},
}

Told = Callable[[int], None]
"""``told(count)``: so many are there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rollout's status says, reduced to what is waited for.

    Attributes:
        state: The word for people.
        weight: The candidate's acknowledged share, such as ``10%``; empty before the first acknowledgement.
        stage: Whether a candidate is in a stage whose split was acknowledged.
        evaluated: When its evidence was last read.
    """

    state: str
    weight: str
    stage: bool
    evaluated: datetime | None


class Crowd:
    """The rollouts ``agent-0`` … of one namespace; all with the same few agents."""

    def __init__(self, lab: DeliveryLab, client: ResourceClient, informer: Informer[Seen]) -> None:
        """Made by ``crowd``."""
        self._lab = lab
        self._client = client
        self._informer = informer
        self._waiting: list[Callable[[str, Seen | None], None]] = []
        self._listeners: list[Callable[[Seen | None, Seen], None]] = []
        informer.on_change(self._changed)

    @staticmethod
    def name(number: int) -> str:
        """Name of a rollout; its users ask for the host ``<name>.example``."""
        return f"agent-{number}"

    def key(self, number: int) -> str:
        """``namespace/name``."""
        return f"{self._lab.namespace}/{self.name(number)}"

    def seen(self, number: int) -> Seen | None:
        """What is known of a rollout."""
        return self._informer.store.get(self.key(number))

    def on_state(self, listener: Callable[[Seen | None, Seen], None]) -> None:
        """Call ``listener(old, new)`` for every state that the watch shows of any rollout."""
        self._listeners.append(listener)

    def _changed(self, key: str, old: Seen | None, new: Seen | None) -> None:
        for tell in tuple(self._waiting):
            tell(key, new)
        if new is not None:
            for listener in self._listeners:
                listener(old, new)

    async def apply(
        self,
        numbers: Iterable[int],
        url: str,
        version: str,
        *,
        told: Told = lambda _: None,
        at_once: int = _SIDE_BY_SIDE,
        **spec: Any,
    ) -> None:
        """Make the rollouts, or give them another version.

        Args:
            numbers: Which.
            url: Where the version is served.
            version: What makes it another one.
            told: Hears how many are done.
            at_once: How many requests may be under way.
            spec: Other fields than the usual ones.
        """
        count = 0

        async def one(number: int) -> None:
            nonlocal count
            await self._client.apply(self._wanted(number, url, version, spec))
            count += 1
            told(count)

        await side_by_side(one, numbers, at_once)

    async def delete(self, numbers: Iterable[int]) -> None:
        """Delete rollouts."""
        await side_by_side(lambda number: self._client.delete(self.key(number)), numbers)

    def _wanted(self, number: int, url: str, version: str, spec: Raw) -> Raw:
        name, host = self.name(number), f"agent-{number}.example"
        wanted = manifest(self._lab.namespace, url, name=name, host=host, **(_USUAL | spec))
        wanted["spec"]["agent"] = agent(url, number, version)
        return wanted

    async def until_all(
        self,
        numbers: Iterable[int],
        holds: Callable[[Seen], bool],
        told: Told = lambda _: None,
        *,
        patience: float = _PATIENCE,
    ) -> None:
        """Return once the condition holds for all of them at the same time.

        Raises:
            TimeoutError: It does not within ``patience`` seconds; the message says for how many.
        """
        keys = {self.key(number) for number in numbers}
        store, ready = self._informer.store, asyncio.Event()
        missing = {key for key in keys if (seen := store.get(key)) is None or not holds(seen)}

        def changed(key: str, seen: Seen | None) -> None:
            if key not in keys:
                return
            (missing.discard if seen is not None and holds(seen) else missing.add)(key)
            told(len(keys) - len(missing))
            if not missing:
                ready.set()

        self._waiting.append(changed)
        try:
            async with asyncio.timeout(patience):
                if missing:
                    await ready.wait()
        except TimeoutError as error:
            some = sorted(missing)[:3]
            raise TimeoutError(
                f"{len(missing)} of {len(keys)} not after {patience:g} s, such as "
                f"{', '.join(f'{key} ({store.get(key)})' for key in some)}"
            ) from error
        finally:
            self._waiting.remove(changed)


@asynccontextmanager
async def crowd(lab: DeliveryLab) -> AsyncIterator[Crowd]:
    """Rollouts by the thousand in the lab's namespace."""
    transport = await KubernetesTransport.connect(kubeconfig=str(lab.control_plane.kubeconfig))
    client = ResourceClient(transport, ROLLOUTS, field_manager="bench", timeout=60)
    informer: Informer[Seen] = Informer(client, _see, SystemClock())
    following = asyncio.create_task(informer.run())
    try:
        await informer.wait_for_sync()
        yield Crowd(lab, client, informer)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await transport.close()


def agent(url: str, number: int, version: str) -> Raw:
    """An artifact of its own for every rollout and version, about as large as agents are."""
    prompt = f"You are agent {number}, {version}. " + "Answer politely, and only from what you know. " * 40
    return {
        "code": {"url": url},
        "prompts": {"system": prompt},
        "model": {"provider": "openai", "name": "gpt-x", "parameters": {"temperature": 0.2}},
        "dependencies": {"tools/refund": "3.2.0", "tools/search": "1.4.1"},
    }


async def side_by_side(
    work: Callable[[int], Awaitable[object]], numbers: Iterable[int], at_once: int = _SIDE_BY_SIDE
) -> None:
    """Do it for all numbers, some at a time."""
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())


def _see(raw: Raw) -> Seen:
    status = raw.get("status") or {}
    evaluated = (status.get("evidence") or {}).get("evaluatedAt")
    return Seen(
        state=status.get("state", ""),
        weight=status.get("programmed", ""),
        stage="programmedAt" in (status.get("stage") or {}),
        evaluated=datetime.fromisoformat(evaluated) if evaluated else None,
    )
