import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller.runtime.backoff import Backoff
from controller.runtime.controller import Controller, Result
from controller.runtime.errors import Conflict, NotFound, TooManyRequests
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.testing import FakeClock, settle
from controller.runtime.workqueue import WorkQueue

BOUND_ONLY = Backoff(base=1.0, cap=8.0, uniform=lambda: 1.0)


class Fixture:
    """A controller on a fake clock, with what it did and when."""

    def __init__(self, reconcile: Callable[[str], Awaitable[Result]], workers: int = 1) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.calls: list[tuple[float, str]] = []
        metrics = RuntimeMetrics(self.registry)
        self.queue = WorkQueue("rollout", self.clock, backoff=BOUND_ONLY, metrics=metrics)

        async def recorded(key: str) -> Result:
            self.calls.append((self.clock.monotonic(), key))
            return await reconcile(key)

        self.controller = Controller(
            "rollout", self.queue, recorded, clock=self.clock, workers=workers, metrics=metrics
        )
        self.task = asyncio.create_task(self.controller.run())

    def count(self, result: str) -> float | None:
        labels = {"controller": "rollout", "result": result}
        return self.registry.get_sample_value("controller_runtime_reconcile_total", labels)

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name, {"controller": "rollout"})

    async def stop(self) -> None:
        self.controller.stop()
        await self.task


def _always(answer: Result | Exception) -> Callable[[str], Awaitable[Result]]:
    async def reconcile(_: str) -> Result:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return reconcile


async def test_a_key_is_reconciled_once_per_add() -> None:
    fixture = Fixture(_always(Result()))
    fixture.queue.add("ns/a")
    await fixture.clock.run_for(1000)
    assert fixture.calls == [(0.0, "ns/a")]
    assert fixture.count("success") == 1
    await fixture.stop()


async def test_all_series_are_there_before_the_first_reconcile() -> None:
    fixture = Fixture(_always(Result()), workers=3)
    results = ("success", "requeue", "requeue_after", "error")
    assert [fixture.count(result) for result in results] == [0.0, 0.0, 0.0, 0.0]
    assert fixture.value("controller_runtime_max_concurrent_reconciles") == 3
    for name in (
        "controller_runtime_reconcile_errors_total",
        "controller_runtime_active_workers",
        "controller_runtime_reconcile_time_seconds_count",
    ):
        assert fixture.value(name) == 0, name
    queue = {"name": "rollout"}
    for name in (
        "workqueue_depth",
        "workqueue_adds_total",
        "workqueue_retries_total",
        "workqueue_queue_duration_seconds_count",
        "workqueue_work_duration_seconds_count",
        "workqueue_unfinished_work_seconds",
        "workqueue_longest_running_processor_seconds",
    ):
        assert fixture.registry.get_sample_value(name, queue) == 0, name
    await fixture.stop()


async def test_requeue_after_looks_again_in_time() -> None:
    fixture = Fixture(_always(Result(requeue_after=15.0)))
    fixture.queue.add("ns/a")
    await fixture.clock.run_for(50)
    assert [at for at, _ in fixture.calls] == [0.0, 15.0, 30.0, 45.0]
    assert fixture.count("requeue_after") == 4
    await fixture.stop()


async def test_a_change_during_the_reconcile_is_looked_at_after_it() -> None:
    fixture: Fixture

    async def reconcile(key: str) -> Result:
        if len(fixture.calls) == 1:
            fixture.queue.add(key)
        return Result()

    fixture = Fixture(reconcile)
    fixture.queue.add("ns/a")
    await settle()
    assert len(fixture.calls) == 2
    await fixture.stop()


async def test_failures_are_repeated_with_growing_pauses_and_success_resets_them() -> None:
    async def reconcile(_: str) -> Result:
        if len(fixture.calls) in (1, 2, 3, 5):
            raise RuntimeError("boom")
        return Result(requeue_after=100.0)

    fixture = Fixture(reconcile)
    fixture.queue.add("ns/a")
    with capture_logs() as logs:
        await fixture.clock.run_for(150)
    assert [at for at, _ in fixture.calls] == [0.0, 1.0, 3.0, 7.0, 107.0, 108.0]
    assert [(log["event"], log["log_level"], log["failures"]) for log in logs] == [
        ("reconcile_failed", "error", failures) for failures in (1, 2, 3, 1)
    ]
    assert all(isinstance(log["exc_info"], RuntimeError) for log in logs)
    assert fixture.count("error") == 4
    assert fixture.value("controller_runtime_reconcile_errors_total") == 4
    await fixture.stop()


async def test_a_conflict_is_repeated_quietly_and_is_no_error() -> None:
    fixture = Fixture(_always(Conflict("modified", code=409)))
    fixture.queue.add("ns/a")
    with capture_logs() as logs:
        await fixture.clock.run_for(2)
    assert [at for at, _ in fixture.calls] == [0.0, 1.0]
    assert {log["log_level"] for log in logs} == {"debug"}
    assert fixture.count("requeue") == 2
    assert not fixture.value("controller_runtime_reconcile_errors_total")
    await fixture.stop()


async def test_what_the_api_refuses_is_logged_in_its_words_without_a_traceback() -> None:
    fixture = Fixture(_always(NotFound("GET /x: 404 NotFound: no x")))
    fixture.queue.add("ns/a")
    with capture_logs() as logs:
        await settle()
    assert logs == [
        {
            "event": "reconcile_failed",
            "log_level": "warning",
            "error": "GET /x: 404 NotFound: no x",
            "failures": 1,
        }
    ]
    await fixture.stop()


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    fixture = Fixture(_always(TooManyRequests("busy", retry_after=30.0)))
    fixture.queue.add("ns/a")
    await fixture.clock.run_for(65)
    assert [at for at, _ in fixture.calls] == [0.0, 30.0, 60.0]
    await fixture.stop()


@pytest.mark.parametrize(("workers", "seconds"), [(1, 40.0), (2, 20.0), (4, 10.0)])
async def test_workers_share_the_keys(workers: int, seconds: float) -> None:
    async def reconcile(_: str) -> Result:
        await fixture.clock.sleep(10)
        return Result()

    fixture = Fixture(reconcile, workers)
    for key in "abcd":
        fixture.queue.add(key)
    await fixture.clock.run_for(seconds - 1)
    assert fixture.count("success") != 4
    await fixture.clock.run_for(1)
    assert fixture.count("success") == 4
    assert fixture.value("controller_runtime_max_concurrent_reconciles") == workers
    assert fixture.value("controller_runtime_active_workers") == 0
    await fixture.stop()


async def test_a_hung_object_does_not_hold_up_the_others() -> None:
    async def reconcile(key: str) -> Result:
        if key == "hung":
            await asyncio.Event().wait()
        return Result()

    fixture = Fixture(reconcile, workers=2)
    for key in ("hung", "a", "b"):
        fixture.queue.add(key)
    fixture.queue.add("hung")
    await settle()
    assert [key for _, key in fixture.calls] == ["hung", "a", "b"]
    fixture.task.cancel()
    await asyncio.gather(fixture.task, return_exceptions=True)


async def test_stop_finishes_what_runs_and_starts_nothing_more() -> None:
    finished: list[str] = []

    async def reconcile(key: str) -> Result:
        await fixture.clock.sleep(5)
        finished.append(key)
        return Result(requeue_after=1.0)

    fixture = Fixture(reconcile)
    fixture.queue.add("running")
    fixture.queue.add("waiting")
    await fixture.clock.run_for(1)
    fixture.controller.stop()
    await settle()
    assert not fixture.task.done()
    await fixture.clock.run_for(10)
    assert fixture.task.done()
    assert finished == ["running"]


async def test_logs_of_a_reconcile_carry_controller_and_key() -> None:
    from structlog.contextvars import get_contextvars

    seen: list[dict[str, Any]] = []

    async def reconcile(_: str) -> Result:
        seen.append(dict(get_contextvars()))
        return Result()

    fixture = Fixture(reconcile)
    fixture.queue.add("ns/a")
    await settle()
    assert seen == [{"controller": "rollout", "key": "ns/a"}]
    await fixture.stop()
