"""Under which conditions figures were measured, and how they are summed up."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Quantiles:
    """Nearest-rank quantiles: each is a value that was measured."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Of one value or more."""
        ordered = sorted(values)
        p50, p90, p99 = (ordered[math.ceil(len(ordered) * q) - 1] for q in (0.5, 0.9, 0.99))
        return cls(len(ordered), p50, p90, p99, ordered[-1])

    def cells(self, digits: int = 2) -> list[str]:
        """Count and quantiles for a table."""
        return [
            str(self.count),
            *(f"{value:.{digits}f}" for value in (self.p50, self.p90, self.p99, self.max)),
        ]


def conditions() -> dict[str, Any]:
    """Commit, machine, and how busy it is at the start."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted": _git("status", "--porcelain", "--", "controller") != "",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def headline(found: dict[str, Any]) -> str:
    """The conditions in a line or two."""
    changed = " with uncommitted changes" if found["uncommitted"] else ""
    busy = ", ".join(f"{value:g}" for value in found["load_average"])
    return (
        f"commit {found['commit']}{changed}, {found['at']}, {found['cores']} cores of {found['processor']}, "
        f"{found['system']}, Python {found['python']}, load average at the start {busy}"
    )


def write(path: Path, report: dict[str, Any]) -> None:
    """Store a report as JSON; dataclasses become objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, default=_plain) + "\n")


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else asdict(value)  # type: ignore[call-overload]


def _git(*arguments: str) -> str:
    command: Sequence[str] = ("git", "-C", str(_ROOT), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
