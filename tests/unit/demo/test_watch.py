from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from controller.api.rollout import AgentRollout
from examples.demo.errors import DemoError
from examples.demo.operator_log import first_after
from examples.demo.watch import RolloutWatch
from tests.unit.demo.stories import NOW, condition, rollout, staged


def printer(folder: Path, *states: AgentRollout, then: str = "time.sleep(60)") -> list[str | Path]:
    """A command that prints the states as kubectl does."""
    text = "\n".join(json.dumps(state.to_json(), indent=4) for state in states)
    (folder / "printed").write_text(text + "\n")
    script = f"import sys, time; print(open({str(folder / 'printed')!r}).read(), end='', flush=True); {then}"
    return [sys.executable, "-c", script]


@asynccontextmanager
async def running(watch: RolloutWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_every_state_is_told_and_waited_for(tmp_path: Path) -> None:
    seen: list[AgentRollout] = []
    watch = RolloutWatch(printer(tmp_path, rollout(), staged()), seen.append)
    async with running(watch):
        found = await watch.until(
            lambda now: now.status.candidate is not None, seconds=10, what="a candidate"
        )

    assert found == staged()
    assert seen == [rollout(), staged()]


async def test_a_watch_that_ends_is_started_again(tmp_path: Path) -> None:
    seen: list[AgentRollout] = []
    watch = RolloutWatch(printer(tmp_path, rollout(), then="sys.exit(1)"), seen.append)
    async with running(watch):
        await watch.until(lambda _: len(seen) > 1, seconds=10, what="a second watch")


async def test_waiting_in_vain_says_where_the_rollout_stands(tmp_path: Path) -> None:
    message = "stable's latency: 3 of 50 requests seen"
    waiting = staged(conditions=[condition("Progressing", "True", "AwaitingEvidence", message)])
    watch = RolloutWatch(printer(tmp_path, waiting), lambda _: None)
    async with running(watch):
        await watch.until(lambda _: True, seconds=10, what="anything")
        with pytest.raises(
            DemoError, match=r"v2 to be promoted in vain; .* in stage 10%: .*3 of 50 requests"
        ):
            await watch.until(lambda _: False, seconds=0.2, what="v2 to be promoted")


async def test_waiting_ends_when_it_has_become_pointless() -> None:
    def check() -> None:
        raise DemoError("The operator ended.")

    watch = RolloutWatch(["true"], lambda _: None)
    with pytest.raises(DemoError, match=r"The operator ended\."):
        await watch.until(lambda _: True, seconds=10, what="anything", check=check)


def test_the_operator_log_tells_when_a_split_was_acknowledged(tmp_path: Path) -> None:
    log = tmp_path / "operator.log"

    def line(seconds: float, event: str = "split_acknowledged", key: str = "shop/a") -> str:
        at = (NOW + timedelta(seconds=seconds)).isoformat()
        return json.dumps({"event": event, "rollout": key, "timestamp": at})

    other = [line(6, "cut_pushed"), line(7, key="shop/b"), '{"event": "started"}', "Traceback: oh", "[]"]
    log.write_text("\n".join([line(4), *other, line(8), line(9)]))

    after = NOW + timedelta(seconds=5)
    assert first_after(log, "split_acknowledged", "shop/a", after) == NOW + timedelta(seconds=8)
    assert first_after(log, "split_acknowledged", "shop/c", after) is None
