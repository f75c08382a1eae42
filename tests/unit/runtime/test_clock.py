import asyncio
from datetime import UTC, timedelta

from controller.runtime.clock import SystemClock
from controller.runtime.testing import FakeClock, settle


async def test_the_system_clock_is_aware_and_moves_on() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is not None
    assert clock.now().utcoffset() == timedelta(0)
    before = clock.monotonic()
    await clock.sleep(0.001)
    await clock.sleep(-1)
    assert clock.monotonic() > before


async def test_the_system_clock_calls_later() -> None:
    called = asyncio.Event()
    SystemClock().call_later(0.001, called.set)
    async with asyncio.timeout(5):
        await called.wait()


def test_the_fake_clock_calls_in_the_order_of_time_each_at_its_instant() -> None:
    clock, calls = FakeClock(), list[tuple[str, float]]()
    clock.call_later(2, lambda: calls.append(("second", clock.monotonic())))
    clock.call_later(1, lambda: calls.append(("first", clock.monotonic())))
    clock.call_later(1.5, lambda: calls.append(("never", clock.monotonic()))).cancel()
    clock.call_later(9, lambda: calls.append(("later", clock.monotonic())))
    clock.advance(5)
    assert calls == [("first", 1.0), ("second", 2.0)]
    assert clock.monotonic() == 5.0


def test_the_fake_wall_clock_goes_with_the_monotonic_one() -> None:
    clock = FakeClock()
    start = clock.now()
    clock.advance(90)
    assert clock.now() - start == timedelta(seconds=90)
    assert clock.now().tzinfo is UTC


async def test_run_for_gives_every_sleep_of_a_loop_its_turn() -> None:
    clock, ticks = FakeClock(), list[float]()

    async def tick() -> None:
        while True:
            await clock.sleep(10)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(tick())
    await clock.run_for(35)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ticks == [10.0, 20.0, 30.0]


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(10))
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.next_due() is None
    await clock.sleep(0)
