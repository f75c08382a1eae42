"""``python -m tests.bench.shadow_parts``: an agent or a recorder as a process of its own, which can be stopped and killed."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from controller.adapters.envoy.capture import Capture
from controller.core.shadow.exchange import Pair
from controller.core.shadow.pairing import Ended, Pairing
from devkit.process import LOOPBACK, Process
from tests.integration.shadow_lab import ChatAgent

_ROOT = Path(__file__).parents[2]


class Part(StrEnum):
    """What to be."""

    AGENT = "agent"
    RECORDER = "recorder"


def main(
    part: Part,
    port: Annotated[int, typer.Argument(help="Where to listen on loopback.")],
    name: Annotated[str, typer.Argument(help="What an agent calls itself.")] = "agent",
) -> None:
    """Serve until SIGTERM."""
    asyncio.run(_agent(name, port) if part is Part.AGENT else _recorder(port))


def part(what: Part, port: int, name: str, directory: Path) -> Process:
    """The process, not yet started."""
    command = [sys.executable, "-m", "tests.bench.shadow_parts", what.value, str(port), name]
    return Process(name, command, directory, env={"PYTHONPATH": str(_ROOT)})


async def _agent(name: str, port: int) -> None:
    async with ChatAgent(name, port=port, remember=False):
        await _ended()


async def _recorder(port: int) -> None:
    """Every second one line: how many pairs there were, how many other ends, and what is held."""
    pairing, counts = Pairing(), [0, 0]

    def count(ends: tuple[Pair | Ended, ...]) -> None:
        for each in ends:
            counts[isinstance(each, Ended)] += 1

    capture = Capture(lambda exchange: count(pairing.take(exchange, time.monotonic())))
    await capture.start(LOOPBACK, port)
    ended = asyncio.create_task(_ended())
    while not ended.done():
        await asyncio.wait({ended}, timeout=1)
        count(pairing.expire(time.monotonic()))
        print(*counts, capture.open_streams, capture.held_bytes + pairing.held_bytes, flush=True)
    await capture.stop(0)


async def _ended() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    typer.run(main)
