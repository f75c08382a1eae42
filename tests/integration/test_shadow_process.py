"""``agentrollout shadow serve`` behind a real Envoy: every sampled request ends in one bin, and its record can be read."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from controller.adapters.records import SqlRecords
from controller.core.shadow.comparison import Bin
from devkit.process import LOOPBACK, Process, free_port
from tests.integration.shadow_lab import KEY, ShadowLab, _healthy, eventually_true, shadow_lab

PROGRAM = Path(sys.executable).with_name("agentrollout")
REQUESTS = int(os.environ.get("SHADOW_REQUESTS", "200"))
PER_SECOND = 200


class Shadow:
    """The process, and what it shows."""

    def __init__(self, directory: Path) -> None:
        self.port, self.http = free_port(), free_port()
        self.url = f"sqlite:///{directory / 'records.db'}"
        command: list[str | Path] = [
            PROGRAM, "shadow", "serve", "--records", self.url, "--capture-address", f"{LOOPBACK}:{self.port}",
            "--http-address", f"{LOOPBACK}:{self.http}",
        ]  # fmt: skip
        self.process = Process("shadow", command, directory)

    async def bins(self, session: aiohttp.ClientSession, revision: str) -> dict[str, int]:
        """Where comparisons with this revision ended, without empty bins."""
        return {
            labels["bin"]: int(value)
            for labels, value in await self.samples(session, "agentrollout_shadow_comparisons_total")
            if labels["revision"] == revision and value
        }

    async def samples(self, session: aiohttp.ClientSession, name: str) -> list[tuple[dict[str, str], float]]:
        """What the process shows of a metric: labels and value."""
        async with session.get(f"http://{LOOPBACK}:{self.http}/metrics") as answer:
            text = await answer.text()
        return [
            (dict(sample.labels), sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        ]

    def command(self, *arguments: str) -> str:
        """What a command about the records prints."""
        done = subprocess.run(
            [PROGRAM, "shadow", *arguments, "--records", self.url],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "100"},
        )
        return done.stdout


@asynccontextmanager
async def running(directory: Path, **split: Any) -> AsyncIterator[tuple[Shadow, ShadowLab]]:
    shadow = Shadow(directory)
    shadow.process.start()
    try:
        async with shadow_lab(port=shadow.port, **split) as lab:
            await eventually_true(lambda: _healthy(lab.lab))
            yield shadow, lab
    finally:
        shadow.process.stop(30)


async def test_what_users_asked_is_counted_recorded_and_read_and_nobody_is_named(tmp_path: Path) -> None:
    """``SHADOW_REQUESTS=10000`` makes it the run of 50 s that the promise is about."""
    async with running(tmp_path, sampled_ppm=200_000, noise_ppm=40_000) as (shadow, lab):

        async def one(number: int) -> None:
            await asyncio.sleep(number / PER_SECOND)
            body = b"I am jo%d.doe@example.com" % number
            path = "/status/503" if number % 10 == 0 else "/echo"
            status, _ = await lab.ask(path, body, x_session_id=f"conversation-{number}")
            assert status == (503 if number % 10 == 0 else 200)

        await asyncio.gather(*(one(number) for number in range(REQUESTS)))
        sampled, twice = await mirrored(lab, "candidate~shadow"), await mirrored(lab, "stable~noise")

        async def sums_up() -> bool:
            both = [await shadow.bins(lab.user, revision) for revision in ("candidate", "stable")]
            return [sum(each.values()) for each in both] == [sampled, twice]

        await eventually_true(sums_up)
        answered = await mirrored(lab, "stable~sampled") + await mirrored(lab, "stable~sampled-noise")
        bins = await shadow.bins(lab.user, "candidate")
        lost = await shadow.samples(lab.user, "agentrollout_shadow_capture_lost_total")
        shadow.process.signal(signal.SIGTERM)
        await asyncio.to_thread(shadow.process._wait, 30)
    assert REQUESTS / 10 < answered == sampled < REQUESTS / 3
    assert 0 < twice < sampled
    assert lost == [({}, 0.0)]
    assert set(bins) <= {"both_error", "tie", "win", "loss"}
    assert bins["both_error"] > 0
    assert shadow.process.returncode == 0
    stored = (tmp_path / "records.db").read_bytes().decode(errors="replace")
    assert "<EMAIL_1>" in stored
    assert "doe@example.com" not in stored + shadow.process.log.read_text()


async def mirrored(lab: ShadowLab, cluster: str) -> int:
    """Requests that Envoy sent to a cluster of the rollout."""
    name = f"cluster.{KEY}/{cluster}.upstream_rq_total"
    return (await lab.lab.counters(re.escape(name) + "$"))[name]


async def test_a_loss_can_be_listed_read_and_labelled(tmp_path: Path) -> None:
    async with running(tmp_path) as (shadow, lab):
        await lab.candidate.__aexit__()
        assert (await lab.ask("/echo", b"Hello"))[0] == 200

        async def lost() -> bool:
            return await shadow.bins(lab.user, "candidate") == {"loss": 1}

        await eventually_true(lost)
        records = SqlRecords(shadow.url, create=False)
        comparison = records.last(KEY, Bin.LOSS, 1)[0].case.id
        records.close()
        listed = await asyncio.to_thread(shadow.command, "losses", "agent", "-n", "shop")
        shown = await asyncio.to_thread(shadow.command, "show", comparison)
        labelled = await asyncio.to_thread(shadow.command, "label", comparison, "loss", "--by", "ann")
        again = await asyncio.to_thread(shadow.command, "show", comparison)
    assert comparison in listed
    assert "It failed" in listed
    assert "loss: It failed where stable answered: no answer." in shown
    assert "stable says Hello" in shown
    assert "ann says loss" not in shown
    assert "ann says loss" in again
    assert labelled == f"{comparison}: ann says loss, the record says loss.\n"
