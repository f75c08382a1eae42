"""Workers in processes of their own at one queue: whoever dies, every comparison is recorded once."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from controller.adapters.queues.nats import NatsQueue
from controller.adapters.records import SqlRecords, comparisons
from controller.core.shadow.comparison import Bin
from controller.shadow.comparisons import Comparison, encode
from devkit.process import Process
from tests.compared import CASE
from tests.servers import Nats
from tests.waiting import eventually

PAIRS = 240
"""Three processes with four workers each need about three seconds for them, undisturbed."""


def bins(records: SqlRecords) -> dict[str, str]:
    with records._begin() as connection:
        rows = connection.execute(comparisons.select()).all()
    return {row.id: row.bin for row in rows}


async def test_three_workers_one_killed_and_the_server_started_anew_record_each_pair_once(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'records.db'}"
    records, chance = SqlRecords(url), random.Random()  # any of them may be hit, at any point
    with Nats() as server, ExitStack() as stack:
        queue = await NatsQueue.connect(server.url, patience=2.0)
        workers = [
            Process(
                f"worker-{number}",
                [sys.executable, "-m", "tests.integration.shadow_worker", server.url, url],
                tmp_path,
                env={"PYTHONPATH": str(Path(__file__).parents[2])},
            )
            for number in range(3)
        ]
        for worker in workers:
            worker.start()
            stack.callback(worker.stop)
        names = [f"pair-{number}" for number in range(PAIRS)]

        async def put_all() -> None:
            for name in names:
                await queue.put(name, encode(Comparison(replace(CASE, id=name))))
                await asyncio.sleep(0.01)

        putting = asyncio.create_task(put_all())
        await eventually(lambda: len(bins(records)) > PAIRS // 8, 60)
        workers[chance.randrange(3)].kill()  # with up to four comparisons in its hands
        await eventually(lambda: len(bins(records)) > PAIRS // 4, 60)
        await asyncio.to_thread(server.restart)
        await putting
        for name in names[:20]:  # what a recorder that never got its answer would do
            await queue.put(name, encode(Comparison(replace(CASE, id=name))))
        await eventually(lambda: len(bins(records)) == PAIRS, 60)
        state = queue._client.jetstream()
        left = [-1]

        async def drained() -> int:
            return int((await state.stream_info("AGENTROLLOUT_SHADOW")).state.messages)

        async with asyncio.timeout(60):
            while left[0] != 0:
                left[0] = await drained()
                await asyncio.sleep(0.1)
        await queue.close()
    found = bins(records)
    records.close()
    assert sorted(found) == sorted(names)
    assert Counter(found.values()) == {Bin.TIE.value: PAIRS}
