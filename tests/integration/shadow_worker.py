"""A process that judges slowly what is in NATS: python -m tests.integration.shadow_worker NATS-URL RECORDS-URL."""

from __future__ import annotations

import asyncio
import signal
import sys

from prometheus_client import CollectorRegistry

from controller.adapters.queues.nats import NatsQueue
from controller.adapters.records import SqlRecords
from controller.core.shadow.comparison import Case, Outcome
from controller.core.shadow.judgement import Judgement
from controller.runtime.backoff import Backoff
from controller.runtime.clock import SystemClock
from controller.shadow.funnel import Funnel
from controller.shadow.worker import Workers

PATIENCE = 2.0
JUDGING_SECONDS = 0.15


class _Slow:
    async def judge(self, case: Case) -> Judgement:
        await asyncio.sleep(JUDGING_SECONDS)
        return Judgement(Outcome.TIE, "alike", "sha256:j")

    def artifact(self, case: Case) -> str:
        return "sha256:j"


async def main(nats: str, url: str) -> None:
    clock = SystemClock()
    queue, records = await NatsQueue.connect(nats, patience=PATIENCE), SqlRecords(url)
    workers = Workers(
        queue,
        _Slow(),
        records,
        Funnel(CollectorRegistry(), clock.monotonic),
        clock=clock,
        count=4,
        retries=Backoff(base=0.1, cap=0.1),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, workers.stop)
    await workers.run()
    await queue.close()
    records.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
