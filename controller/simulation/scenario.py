"""What users do and how versions answer in a simulation, in the words of the command line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta

from controller.adapters.envoy.metrics import LATENCY_EDGES_MS
from controller.api.delivery import MetricName
from controller.api.quantities import parse_duration

MEDIAN_LATENCY_MS = 800.0
LATENCY_SPREAD = 0.7
"""Standard deviation of the logarithm of a latency; with it the slowest in twenty take three times the median."""

_TRAFFIC = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|min|h)")
_FAULT = re.compile(r"([a-z]+)\*([0-9]+(?:\.[0-9]+)?)(?:@(.+))?", re.IGNORECASE)
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is worse about the candidate.

    Attributes:
        metric: What gets worse.
        factor: How many times worse: the rate of errors, or every latency.
        after: How long after the candidate's first request it begins.
    """

    metric: MetricName
    factor: float
    after: timedelta = timedelta(0)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """``errors*3@10m``: from ten minutes after its first request on, the candidate has three times the errors.

        Raises:
            ValueError: The text is no such fault.
        """
        found = _FAULT.fullmatch(text)
        metrics = {MetricName.ERRORS.value, MetricName.LATENCY.value}
        if not found or found[1] not in metrics or float(found[2]) <= 1:
            raise ValueError(
                f"{text!r} is no fault: write errors*3@10m or latency*2, with a factor above 1 and, after @, how long "
                "after the candidate's first request it begins"
            )
        return cls(
            MetricName(found[1]), float(found[2]), parse_duration(found[3]) if found[3] else timedelta(0)
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """How one version answers.

    Attributes:
        errors: Probability that a request fails.
        median_ms: Median latency; latencies are log-normal.
    """

    errors: float
    median_ms: float = MEDIAN_LATENCY_MS

    @property
    def within(self) -> tuple[float, ...]:
        """For each edge of the routers' latency histogram the share of requests that are answered by then."""
        return tuple(_log_normal(edge / self.median_ms) for edge in LATENCY_EDGES_MS)

    def worse_by(self, fault: Fault) -> Answers:
        """The same with a fault."""
        if fault.metric is MetricName.ERRORS:
            return Answers(min(self.errors * fault.factor, 1.0), self.median_ms)
        return Answers(self.errors, self.median_ms * fault.factor)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of run.

    Attributes:
        per_second: Requests of all users.
        usual: How stable answers, and a candidate without its fault.
        audience: Share of the requests that come from the audience, if a stage has one.
        fault: What is wrong with the candidate; None for a good one.
    """

    per_second: float
    usual: Answers
    audience: float
    fault: Fault | None = None


def parse_traffic(text: str) -> float:
    """Requests a second of ``2000/min``, ``30/s`` or ``500/h``.

    Raises:
        ValueError: The text is no such rate.
    """
    found = _TRAFFIC.fullmatch(text)
    if not found or float(found[1]) <= 0:
        raise ValueError(f"{text!r} is no rate of requests: write 2000/min, 30/s or 500/h")
    return float(found[1]) / _UNITS[found[2]]


def _log_normal(ratio: float) -> float:
    """The share of latencies up to so many times the median."""
    return 0.5 * math.erfc(-math.log(ratio) / (LATENCY_SPREAD * math.sqrt(2)))
