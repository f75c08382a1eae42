import asyncio

import pytest
from prometheus_client import CollectorRegistry

from controller.runtime.backoff import Backoff
from controller.runtime.metrics import RuntimeMetrics
from controller.runtime.testing import FakeClock, settle
from controller.runtime.workqueue import ShutDown, WorkQueue

FULL = Backoff(base=1.0, cap=8.0, uniform=lambda: 1.0)
"""Without jitter: always the whole bound."""


async def _take(queue: WorkQueue) -> list[str]:
    """All keys that can be had now, still being processed."""
    return [await queue.get() for _ in range(len(queue))]


async def test_keys_come_in_the_order_of_their_first_add() -> None:
    queue = WorkQueue("q", FakeClock())
    for key in ("b", "a", "b", "c", "a"):
        queue.add(key)
    assert await _take(queue) == ["b", "a", "c"]


async def test_a_key_added_while_it_is_processed_comes_again_after_done() -> None:
    queue = WorkQueue("q", FakeClock())
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await _take(queue) == ["a"]
    queue.done("a")
    assert len(queue) == 0


async def test_done_without_get_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="without get"):
        WorkQueue("q", FakeClock()).done("a")


async def test_get_waits_for_a_key() -> None:
    queue = WorkQueue("q", FakeClock())
    waiting = asyncio.create_task(queue.get())
    await settle()
    assert not waiting.done()
    queue.add("a")
    assert await waiting == "a"


async def test_a_cancelled_get_loses_no_key() -> None:
    queue = WorkQueue("q", FakeClock())
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await settle()
    queue.add("a")
    first.cancel()
    assert await second == "a"
    await asyncio.gather(first, return_exceptions=True)


async def test_a_delayed_key_comes_when_its_time_has_come() -> None:
    clock = FakeClock()
    queue = WorkQueue("q", clock)
    queue.add_after("a", 10)
    clock.advance(9.9)
    assert len(queue) == 0
    clock.advance(0.1)
    assert await _take(queue) == ["a"]


@pytest.mark.parametrize("delays", [(10, 5, 20), (5, 10), (20, 10, 5, 5)])
async def test_of_several_delays_the_earliest_instant_counts_and_only_once(delays: tuple[float, ...]) -> None:
    clock = FakeClock()
    queue = WorkQueue("q", clock)
    for seconds in delays:
        queue.add_after("a", seconds)
    clock.advance(4.9)
    assert len(queue) == 0
    clock.advance(0.1)
    assert await _take(queue) == ["a"]
    queue.done("a")
    clock.advance(100)
    assert len(queue) == 0


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_delay_is_an_add(seconds: float) -> None:
    queue = WorkQueue("q", FakeClock())
    queue.add_after("a", seconds)
    assert await _take(queue) == ["a"]


async def test_delayed_keys_need_one_timer_at_a_time() -> None:
    clock = FakeClock()
    queue = WorkQueue("q", clock)
    for number in range(100):
        queue.add_after(f"k{number}", 100 - number)
    assert sum(not timer.cancelled for timer in clock._timers) == 1


async def test_replaced_delays_do_not_pile_up() -> None:
    clock = FakeClock()
    queue = WorkQueue("q", clock)
    queue.add_after("a key in front of the replaced ones", 2000)
    for _ in range(1000):
        queue.add_after("a", 3600)
        queue.add_after("a", 1)
        clock.advance(1)
        queue.done(await queue.get())
    assert len(queue._delayed._heap) < 50
    queue.add_after("a", 5)
    assert clock.next_due() == clock.monotonic() + 5


async def test_failures_are_put_off_longer_each_time_until_forgotten() -> None:
    clock = FakeClock()
    queue = WorkQueue("q", clock, backoff=FULL)
    waits = []
    for _ in range(5):
        queue.add_rate_limited("a")
        due = clock.next_due()
        assert due is not None
        waits.append(due - clock.monotonic())
        clock.advance(waits[-1])
        queue.done(await queue.get())
    assert waits == [1, 2, 4, 8, 8]
    assert queue.failures("a") == 5
    queue.forget("a")
    assert queue.failures("a") == 0
    queue.add_rate_limited("a")
    assert clock.next_due() == clock.monotonic() + 1


async def test_the_failures_of_one_key_do_not_slow_another() -> None:
    clock = FakeClock()
    queue = WorkQueue("q", clock, backoff=FULL)
    for _ in range(3):
        queue.add_rate_limited("bad")
    queue.add_rate_limited("good")
    clock.advance(1)
    assert await _take(queue) == ["bad", "good"]


async def test_a_shut_down_queue_hands_out_what_waits_and_takes_nothing_new() -> None:
    clock = FakeClock()
    queue = WorkQueue("q", clock)
    queue.add("waiting")
    queue.add_after("delayed", 1)
    queue.shut_down()
    queue.add("new")
    queue.add_after("later", 1)
    clock.advance(5)
    assert await queue.get() == "waiting"
    with pytest.raises(ShutDown):
        await queue.get()


async def test_shut_down_wakes_all_who_wait() -> None:
    queue = WorkQueue("q", FakeClock())
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.shut_down()
    assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [ShutDown] * 3


async def test_drained_waits_for_what_is_processed_and_what_became_dirty() -> None:
    queue = WorkQueue("q", FakeClock())
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.shut_down()
    drained = asyncio.create_task(queue.drained())
    await settle()
    queue.done("a")
    await settle()
    assert not drained.done()
    queue.done(await queue.get())
    await settle()
    assert drained.done()


async def test_the_metrics_have_client_gos_names() -> None:
    registry, clock = CollectorRegistry(), FakeClock()
    queue = WorkQueue("rollouts", clock, backoff=FULL, metrics=RuntimeMetrics(registry))
    queue.add("a")
    queue.add("b")
    clock.advance(2)
    await queue.get()
    clock.advance(3)
    assert registry.get_sample_value("workqueue_longest_running_processor_seconds", {"name": "rollouts"}) == 3
    assert registry.get_sample_value("workqueue_unfinished_work_seconds", {"name": "rollouts"}) == 3
    queue.add_rate_limited("a")
    queue.done("a")

    def value(name: str) -> float | None:
        return registry.get_sample_value(name, {"name": "rollouts"})

    assert value("workqueue_depth") == 1
    assert value("workqueue_adds_total") == 2
    assert value("workqueue_retries_total") == 1
    assert value("workqueue_queue_duration_seconds_sum") == 2
    assert value("workqueue_work_duration_seconds_sum") == 3
