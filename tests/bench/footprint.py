"""What the operator's process costs: memory, processor, files, tasks, series, requests to the API server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Footprint:
    """The process at one instant.

    Attributes:
        at: Seconds of a monotonic clock.
        rss_mib: Resident memory.
        peak_mib: The most it ever was, as the kernel noted it.
        cpu_seconds: Processor time so far, user and system.
        files: Open file descriptors.
        tasks: asyncio tasks.
        series: Samples of ``/metrics``.
        requests: Requests to the API server so far, by method; a watch counts once, when it begins.
        reconciles: Reconciles so far.
    """

    at: float
    rss_mib: float
    peak_mib: float
    cpu_seconds: float
    files: int
    tasks: int
    series: int
    requests: Mapping[str, int]
    reconciles: int

    @classmethod
    async def of(cls, pid: int, metrics_url: str) -> Self:
        """Look at the process ``pid`` that serves its metrics at the URL."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            text = (await client.get(metrics_url)).raise_for_status().text
        at, process = time.monotonic(), psutil.Process(pid)
        with process.oneshot():
            cpu = process.cpu_times()
            rss, files = process.memory_info().rss / _MIB, process.num_fds()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        requests: Counter[str] = Counter()
        for sample in samples:
            if sample.name == "rest_client_requests_total":
                requests[sample.labels["method"]] += round(sample.value)
        return cls(
            at=at,
            rss_mib=rss,
            peak_mib=_peak_mib(pid),
            cpu_seconds=cpu.user + cpu.system,
            files=files,
            tasks=round(sum(s.value for s in samples if s.name == "agentrollout_asyncio_tasks")),
            series=len(samples),
            requests=dict(requests),
            reconciles=round(sum(s.value for s in samples if s.name == "controller_runtime_reconcile_total")),
        )


@dataclass(frozen=True)
class Usage:
    """What the process used between two instants.

    Attributes:
        seconds: How long that was.
        cores: Processor time a second.
        requests: Requests to the API server a second.
        by_method: The same by method.
        reconciles: Reconciles a second.
    """

    seconds: float
    cores: float
    requests: float
    by_method: Mapping[str, float]
    reconciles: float

    @classmethod
    def between(cls, before: Footprint, after: Footprint) -> Self:
        """The rates of a span."""
        seconds = after.at - before.at
        grown = {method: count - before.requests.get(method, 0) for method, count in after.requests.items()}
        return cls(
            seconds=seconds,
            cores=(after.cpu_seconds - before.cpu_seconds) / seconds,
            requests=sum(grown.values()) / seconds,
            by_method={method: count / seconds for method, count in grown.items() if count},
            reconciles=(after.reconciles - before.reconciles) / seconds,
        )


async def used_within(pid: int, metrics_url: str, seconds: float) -> tuple[Usage, Footprint]:
    """Watch the process for a while; what it used, and how it stands at the end."""
    before = await Footprint.of(pid, metrics_url)
    await asyncio.sleep(seconds)
    after = await Footprint.of(pid, metrics_url)
    return Usage.between(before, after), after


def _peak_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123  a file of the kernel
        kilobytes = next((line.split()[1] for line in status if line.startswith("VmHWM:")), "0")
    return int(kilobytes) / 1024
