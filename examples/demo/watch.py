"""Follows the AgentRollout with ``kubectl get --watch``, as a person would."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.api.rollout import AgentRollout
from examples.demo.errors import DemoError

_PAUSE_SECONDS = 0.5
_CHECK_SECONDS = 1.0


class RolloutWatch:
    """The newest state of one AgentRollout, and a way to wait for the next."""

    def __init__(self, command: Sequence[str | Path], on_change: Callable[[AgentRollout], None]) -> None:
        """Run ``command``, which prints the object as JSON whenever it changes; tell ``on_change`` each time."""
        self._command = [str(part) for part in command]
        self._on_change = on_change
        self._changed = asyncio.Condition()
        self.rollout: AgentRollout | None = None

    async def run(self) -> None:
        """Follow until cancelled; a watch that ends is started again."""
        while True:
            async with contextlib.aclosing(_documents(self._command)) as documents:
                async for document in documents:
                    await self._take(document)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def until(
        self,
        condition: Callable[[AgentRollout], bool],
        *,
        seconds: float,
        what: str,
        check: Callable[[], None] = lambda: None,
    ) -> AgentRollout:
        """Wait for a state in which ``condition`` holds.

        Args:
            condition: Asked for every state.
            seconds: The deadline.
            what: What is awaited, for the error: "the promotion of v2".
            check: Called every second; raises when waiting has become pointless.

        Raises:
            DemoError: If the deadline passes.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        async with self._changed:
            while self.rollout is None or not condition(self.rollout):
                check()
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    raise DemoError(f"Waited {seconds:g} s for {what} in vain; {describe(self.rollout)}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), min(left, _CHECK_SECONDS))
        return self.rollout

    async def _take(self, document: dict[str, Any]) -> None:
        try:
            rollout = AgentRollout.model_validate(document)
        except ValidationError as error:
            raise DemoError(f"kubectl printed an AgentRollout that cannot be read: {error}") from error
        async with self._changed:
            self.rollout = rollout
            self._on_change(rollout)
            self._changed.notify_all()


def describe(rollout: AgentRollout | None) -> str:
    """Where the rollout stands, as the end of a sentence about what did not happen."""
    if rollout is None:
        return "the AgentRollout was never seen."
    status = rollout.status
    stage = f" in stage {status.stage.title}" if status.stage else ""
    said = "; ".join(f"{c.type}={c.status} ({c.reason}) {c.message}".strip() for c in status.conditions)
    return f"the AgentRollout is {status.state}{stage}: {said or 'it has no conditions yet'}."


async def _documents(command: Sequence[str]) -> AsyncGenerator[dict[str, Any]]:
    """The JSON documents that a command prints, each indented over several lines and ended by a bare brace."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None  # noqa: S101  it is a pipe
    lines: list[bytes] = []
    try:
        async for line in process.stdout:
            lines.append(line)
            if line == b"}\n":
                yield json.loads(b"".join(lines))
                lines.clear()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
