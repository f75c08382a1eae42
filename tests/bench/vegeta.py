"""HTTP load by vegeta: one request line for each conversation, sent in turn at a constant rate."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from devkit.process import Process, wait_until
from devkit.toolchain import Toolchain

_STOP_SECONDS = 60.0
_MOST_WORKERS = 1024


@dataclass(frozen=True)
class LoadReport:
    """What the load met.

    Attributes:
        requests: Requests sent.
        success: Share of them answered with 2xx or 3xx.
        throughput: Such answers a second.
        p50: Median seconds to the end of the answer.
        p99: Seconds within which 99 % of the answers ended.
        statuses: Answers by status; ``0`` is no answer.
        errors: What went wrong, in vegeta's words, each once.
    """

    requests: int
    success: float
    throughput: float
    p50: float
    p99: float
    statuses: Mapping[str, int]
    errors: tuple[str, ...]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read ``vegeta report -type=json``."""
        latencies = raw["latencies"]
        return cls(
            requests=raw["requests"],
            success=raw["success"],
            throughput=raw["throughput"],
            p50=latencies["50th"] / 1e9,
            p99=latencies["99th"] / 1e9,
            statuses=raw["status_codes"],
            errors=tuple(raw["errors"] or ()),
        )


@dataclass(frozen=True)
class Result:
    """One request and what became of it.

    Attributes:
        began: When the request was sent, unix seconds.
        ended: When its answer had ended, or it failed.
        status: Of the answer; 0 is none.
        error: What went wrong, if anything did.
        upstream: Which agent answered, by its header ``x-upstream``; empty where that is not told.
    """

    began: float
    ended: float
    status: int
    error: str
    upstream: str


class Vegeta:
    """One attack, from ``start`` to ``stop`` or for a given time."""

    def __init__(
        self,
        directory: Path,
        targets: Iterable[str],
        *,
        per_second: float,
        seconds: float = 0,
        workers: int = 0,
    ) -> None:
        """Write the targets.

        Args:
            directory: For the targets, the results and the log.
            targets: See ``target``.
            per_second: Requests a second; 0 is as many as ``workers`` manage, each with one request at a time.
            seconds: How long; 0 is until ``stop``.
            workers: Needed when ``per_second`` is 0.
        """
        self._program = Toolchain().find("vegeta")
        directory.mkdir(parents=True, exist_ok=True)
        self._results = directory / "results.bin"
        path = directory / "targets.txt"
        path.write_text("\n".join(targets))
        command: list[str | Path] = [
            self._program,
            "attack",
            f"-targets={path}",
            f"-output={self._results}",
            f"-rate={f'{round(per_second * 10)}/10s' if per_second else 0}",
            f"-duration={seconds:g}s",
        ]
        if not workers:
            # Requests that are not answered must not pile up in memory on a machine that is too busy for them.
            command += [f"-max-workers={_MOST_WORKERS}"]
        else:
            command += [f"-workers={workers}", f"-max-workers={workers}", f"-connections={workers}"]
        self._process = Process("vegeta", command, directory)

    def start(self) -> None:
        """Begin."""
        self._process.start()

    def wait(self, timeout: float) -> LoadReport:
        """Wait for the end of an attack with a given time, and report."""
        wait_until(lambda: not self._process.running, timeout=timeout, what="the end of the load")
        return self._report()

    def stop(self) -> LoadReport:
        """End it, wait for the answers that are under way, and report."""
        self._process.signal(signal.SIGINT)
        return self.wait(_STOP_SECONDS)

    def results(self) -> Iterator[Result]:
        """Every request, after the end."""
        command: list[str | Path] = [self._program, "encode", "-to=json", self._results]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as encoding:
            assert encoding.stdout is not None
            for line in encoding.stdout:
                raw = json.loads(line)
                began = datetime.fromisoformat(raw["timestamp"]).timestamp()
                (upstream,) = (raw["headers"] or {}).get("X-Upstream", [""])
                yield Result(began, began + raw["latency"] / 1e9, raw["code"], raw["error"], upstream)

    def failures(self) -> Iterator[Result]:
        """Every answer that was no 2xx or 3xx, after the end."""
        return (each for each in self.results() if not 200 <= each.status < 400)

    def close(self) -> None:
        """End it without a report; nothing happens when it has ended."""
        self._process.stop()

    def _report(self) -> LoadReport:
        command: list[str | Path] = [self._program, "report", "-type=json", self._results]
        done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=_STOP_SECONDS)
        return LoadReport.from_json(json.loads(done.stdout))


def target(url: str, *, host: str, conversation: str) -> str:
    """One request of a conversation."""
    return f"GET {url}\nHost: {host}\nX-Session-Id: {conversation}\n"
