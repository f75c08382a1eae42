"""Waiting for what happens in another process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from controller.runtime.informer import Informer


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Until the condition holds.

    Raises:
        TimeoutError: It did not in time.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.02)


async def while_running(informer: Informer[Any], test: Callable[[], Awaitable[None]]) -> None:
    """Run the test once the informer has seen everything, and stop the informer afterwards."""
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(20):
            await informer.wait_for_sync()
        await test()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
