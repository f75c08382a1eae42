"""A world in virtual time whose agents report what they do."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from controller.core.counts import Series
from controller.core.snapshot import Answer, Samples
from tests.virtual import VirtualRollout, rollout_of

EDGES = (100.0, 150.0, 225.0, 337.0)


@dataclass(frozen=True)
class Reported:
    """What one version's agent reports of each request.

    Attributes:
        tool_errors: Probability that its one call of a tool ends in an error.
        heavy: Probability that it takes more than 150 tokens.
        edges: Of the histogram of tokens.
        silent: Whether it reports nothing.
    """

    tool_errors: float = 0.02
    heavy: float = 0.05
    edges: tuple[float, ...] = EDGES
    silent: bool = False


@dataclass
class TalkingRollout(VirtualRollout):
    """Each version has one pod, which is scraped 0.7 s before the router is."""

    reported: dict[str, Reported] = field(default_factory=dict)
    reports_problem: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    garbled: bool = False
    deaf: bool = False
    """Whether pods are scraped no more."""
    pod_samples: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    pod_counters: dict[tuple[tuple[str, str], ...], int] = field(default_factory=lambda: defaultdict(int))

    def count(self, revision: str, requests: int, *, audience: bool = False) -> None:
        super().count(revision, requests, audience=audience)
        backend = self.revisions[revision].backend
        told = self.reported.get(backend.host, Reported())
        if told.silent:
            return
        failed, heavy = self._binomial(requests, told.tool_errors), self._binomial(requests, told.heavy)
        whose = {"job": "agents", "instance": backend.host, "artifact": backend.artifact_id}
        self._report("agent_tool_calls_total", requests - failed, whose | {"outcome": "ok"})
        if failed:
            self._report("agent_tool_calls_total", failed, whose | {"outcome": "error"})
        self._report("agent_task_tokens_count", requests, whose)
        for edge in told.edges:
            within = 0 if edge < 150 else requests - heavy if edge < 337 else requests
            self._report("agent_task_tokens_bucket", within, whose | {"le": f"{edge:g}"})
        self._report("agent_task_tokens_bucket", requests, whose | {"le": "+Inf"})

    def take_samples(self) -> None:
        super().take_samples()
        for labels, value in ({} if self.deaf else self.pod_counters).items():
            self.pod_samples[labels].append((self.now.timestamp() - 0.7, float(value)))
            del self.pod_samples[labels][:-30]

    def read(self) -> Samples:
        reports = tuple(
            Series(dict(labels), (*taken[:-1], (taken[-1][0], math.nan)) if self.garbled else tuple(taken))
            for labels, taken in self.pod_samples.items()
        )
        return replace(
            super().read(), reports=reports, reports_problem=self.reports_problem, answers=self.answers
        )

    def _report(self, name: str, amount: int, labels: dict[str, str]) -> None:
        self.pod_counters[tuple({"__name__": name, **labels}.items())] += amount


def talking(
    *metrics: str,
    stages: list[dict[str, Any]] | None = None,
    guardrails: list[dict[str, Any]] | None = None,
    **kwargs: Any,
) -> TalkingRollout:
    """A world whose first artifact is stable and has served for a minute, with these metrics."""
    analysis = {
        "interval": "15s",
        "clustering": 1,
        "metrics": [{"name": name} for name in metrics],
        "guardrails": guardrails or [],
    }
    spec: dict[str, Any] = {"analysis": analysis} | ({"stages": stages} if stages else {})
    world = TalkingRollout(rollout_of(**spec), **kwargs)
    world.settle()
    world.live(60)
    return world
