import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from controller.runtime.manager import Manager, PartEndedError
from controller.runtime.testing import settle


class FakeInformer:
    def __init__(self, name: str, journal: list[str], *, synced: bool = True) -> None:
        self.name = name
        self.problem = ""
        self._journal = journal
        self._synced = asyncio.Event()
        if synced:
            self._synced.set()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    def sync(self) -> None:
        self._synced.set()

    async def wait_for_sync(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        await _until_cancelled(self.name, self._journal)()


class FakeController:
    def __init__(self, journal: list[str], *, heeds_stop: bool = True) -> None:
        self.name = "controller"
        self._journal = journal
        self._heeds_stop = heeds_stop
        self._stop = asyncio.Event()

    async def run(self) -> None:
        self._journal.append("controller starts")
        try:
            await self._stop.wait()
            if not self._heeds_stop:
                await asyncio.Event().wait()
            self._journal.append("controller finishes")
        except asyncio.CancelledError:
            self._journal.append("controller cancelled")
            raise

    def stop(self) -> None:
        self._stop.set()


def _until_cancelled(name: str, journal: list[str]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        journal.append(f"{name} starts")
        try:
            await asyncio.Event().wait()
        finally:
            journal.append(f"{name} ends")

    return run


async def test_parts_start_in_order_after_the_sync_and_stop_the_other_way_round() -> None:
    journal: list[str] = []
    manager = Manager()
    informer = FakeInformer("informer", journal, synced=False)
    manager.add_controller(FakeController(journal))
    manager.add_runnable("xds", _until_cancelled("xds", journal))
    manager.add_informer(informer)
    manager.add_runnable("web", _until_cancelled("web", journal), before_sync=True)
    running = asyncio.create_task(manager.run())
    await settle()
    assert journal == ["web starts", "informer starts"]
    informer.sync()
    await settle()
    assert journal[2:] == ["xds starts", "controller starts"]
    journal.clear()
    manager.stop()
    await running
    assert journal == ["controller finishes", "xds ends", "informer ends", "web ends"]


async def test_ready_says_what_is_missing() -> None:
    journal: list[str] = []
    manager = Manager()
    informer = FakeInformer("rollouts", journal, synced=False)
    flags = ["the flag source is silent"]
    manager.add_informer(informer)
    manager.add_ready_check(lambda: flags[0])
    running = asyncio.create_task(manager.run())
    await settle()
    informer.problem = "connection refused"
    assert manager.ready().reasons == (
        "rollouts is not synced: connection refused",
        "the flag source is silent",
    )
    assert manager.live().ok
    informer.sync()
    flags[0] = ""
    assert manager.ready().reasons == ("the controllers are not started",)
    await settle()
    assert manager.ready().ok
    manager.stop()
    assert manager.ready().reasons == ("the process is stopping",)
    assert manager.live().ok
    await running


async def test_stop_before_the_sync_starts_nothing_more() -> None:
    journal: list[str] = []
    manager = Manager()
    manager.add_informer(FakeInformer("informer", journal, synced=False))
    manager.add_controller(FakeController(journal))
    running = asyncio.create_task(manager.run())
    await settle()
    manager.stop()
    await running
    assert journal == ["informer starts", "informer ends"]


@pytest.mark.parametrize("error", [RuntimeError("address in use"), None])
async def test_a_part_that_ends_by_itself_takes_all_down_and_is_named(error: Exception | None) -> None:
    async def ends() -> None:
        await asyncio.sleep(0)
        if error is not None:
            raise error

    journal: list[str] = []
    manager = Manager()
    manager.add_informer(FakeInformer("informer", journal))
    manager.add_runnable("xds", ends)
    with pytest.raises(PartEndedError, match=r"xds ended: (address in use|without an error)") as ended:
        await manager.run()
    assert ended.value.__cause__ is error
    assert journal == ["informer starts", "informer ends"]


async def test_a_part_that_ended_makes_the_process_dead() -> None:
    async def ends() -> None:
        return

    manager = Manager()
    manager.add_runnable("xds", ends)
    manager._start([("xds", ends, None)])
    await settle()
    assert manager.live().reasons == ("xds has ended",)
    assert not manager.ready().ok


async def test_a_controller_that_does_not_finish_is_cancelled_at_the_deadline() -> None:
    journal: list[str] = []
    manager = Manager(stop_grace=0.01)
    manager.add_controller(FakeController(journal, heeds_stop=False))
    running = asyncio.create_task(manager.run())
    await settle()
    with capture_logs() as logs:
        manager.stop()
        await running
    assert journal == ["controller starts", "controller cancelled"]
    assert [log["event"] for log in logs] == ["stop_deadline_passed", "stopped"]


async def test_a_part_that_fails_while_stopping_is_logged() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("cannot close")

    manager = Manager()
    manager.add_runnable("xds", fails)
    running = asyncio.create_task(manager.run())
    await settle()
    with capture_logs() as logs:
        manager.stop()
        await running
    assert [(log["event"], log.get("part")) for log in logs] == [("part_failed", "xds"), ("stopped", None)]


async def test_cancelling_the_manager_stops_everything_in_order() -> None:
    journal: list[str] = []
    manager = Manager()
    manager.add_informer(FakeInformer("informer", journal))
    manager.add_controller(FakeController(journal))
    running = asyncio.create_task(manager.run())
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert journal[2:] == ["controller finishes", "informer ends"]
