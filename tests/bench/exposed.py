"""Rollouts in virtual time whose routers and pods expose what real ones do, and a Prometheus that has it."""

from __future__ import annotations

import json
import pickle
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.api.agent import Agent
from controller.core.artifact import revision_name
from controller.core.counts import Series
from controller.core.snapshot import Samples
from controller.core.traffic import Backend
from devkit.process import LOOPBACK
from tests.virtual import VirtualRollout, rollout_of

METRICS = ("errors", "latency", "toolErrors", "tokensPerTask", "cost")
ERRORS = 0.02
EDGES = {58: 0.1, 110: 0.4, 220: 0.7, 430: 0.93, 850: 0.985, 1700: 1.0}
"""Of the router's histogram, milliseconds, with the share of requests that are answered by then."""
TASKS = {
    "agent_task_tokens": (1000, 1500, 2250, 3375, 5062),
    "agent_task_cost_usd": (0.01, 0.015, 0.0225, 0.0338, 0.0506),
}
PODS = 2
"""Of each version."""

_AT_REST = (
    "upstream_cx_protocol_error",
    "upstream_rq_per_try_idle_timeout",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_cancelled",
    "upstream_cx_destroy_remote_with_active_rq",
    "upstream_cx_destroy_local_with_active_rq",
)
"""What every cluster of HTTP/1.1 exposes beside what moves here."""

Labels = tuple[tuple[str, str], ...]


@dataclass
class ExposedRollout(VirtualRollout):
    """One rollout; every pod answers every request alike.

    Attributes:
        name: Of the object.
        routers: How many share the traffic.
    """

    name: str = "agent"
    routers: int = 1
    pod_counters: dict[Labels, float] = field(default_factory=lambda: defaultdict(float))
    pod_samples: dict[Labels, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def count(self, revision: str, requests: int, *, audience: bool = False) -> None:
        super().count(revision, requests, audience=audience)
        artifact = self.revisions[revision].artifact_id
        for pod in range(PODS):
            self._report(
                requests // PODS,
                {"instance": f"10.1.{pod}.7:8080", "pod": f"{revision}-{pod}", "artifact": artifact},
            )

    def take_samples(self) -> None:
        at = self.now.timestamp()
        for router in range(self.routers):
            for name in (self.catalogue.liveness, self.catalogue.override):
                self.samples[_of_router(router, name)].append((at, float(name == self.catalogue.liveness)))
        for labels, value in self.counters.items():
            self.samples[labels].append((at, float(value)))
        for labels, amount in self.pod_counters.items():
            self.pod_samples[labels].append((at - 0.7, amount))

    def backend_of(self, agent: Agent) -> Backend:
        found = super().backend_of(agent)
        return replace(found, revision=revision_name(self.name, found.artifact_id))

    def read(self) -> Samples:
        return replace(super().read(), reports=_series(self.pod_samples))

    def answers(self, since: float) -> dict[str, list[str]]:
        """What a Prometheus answers now about each cluster and artifact, as JSON; under an empty name about routers."""
        found: dict[str, list[str]] = defaultdict(list)
        edges = {f"{edge:g}" for metric in self._edges for edge in metric}
        for labels, taken in (*self.samples.items(), *self.pod_samples.items()):
            named = dict(labels)
            if named.get("le", "") in {"", *edges}:
                whose = named.get("artifact") or (self.name if self.catalogue.label in named else "")
                found[whose].append(_json(named, [each for each in taken if each[0] > since]))
        return found

    @property
    def _edges(self) -> list[list[float]]:
        evidence = self.rollout.status.evidence
        return [metric.edges for metric in evidence.metrics] if evidence else []

    def _count(self, revision: str, requests: int, *, audience: bool, control: int) -> None:
        of = self.catalogue
        whose = {of.label: of.value(self.rollout.metadata.key, revision, audience)}
        if control:
            whose[of.slice_label] = str(control)
        parts = self.random.multinomial(requests, [1 / self.routers] * self.routers)
        for router, part in enumerate(parts.tolist()):
            moved = dict.fromkeys(_AT_REST, 0) | {
                "upstream_rq_completed": part,
                "upstream_rq_time_count": part,
            }
            for name, amount in moved.items():
                self.counters[_of_router(router, f"envoy_cluster_{name}", whose)] += amount
            if failed := self._binomial(part, ERRORS):
                failures = whose | {"envoy_response_code_class": "5"}
                self.counters[_of_router(router, "envoy_cluster_upstream_rq_xx", failures)] += failed
            times = self.random.random(part)
            for edge, within in EDGES.items():
                bucket = whose | {"le": str(edge)}
                amount = int((times < within).sum())
                self.counters[_of_router(router, of.latency.buckets, bucket)] += amount
            self.counters[_of_router(router, of.latency.buckets, whose | {"le": "+Inf"})] += part

    def _report(self, tasks: int, whose: Mapping[str, str]) -> None:
        failed = self._binomial(tasks, ERRORS)
        told: dict[tuple[str, str, str], int] = {
            ("agent_tool_calls_total", "outcome", "ok"): tasks - failed,
            ("agent_tool_calls_total", "outcome", "error"): failed,
        }
        for name, edges in TASKS.items():
            sizes = self.random.random(tasks)
            told[f"{name}_count", "", ""] = tasks
            for number, edge in enumerate(edges, 1):
                told[f"{name}_bucket", "le", f"{edge:g}"] = int((sizes < number / len(edges)).sum())
            told[f"{name}_bucket", "le", "+Inf"] = tasks
        for (name, label, value), amount in told.items():
            labels = {
                "__name__": name,
                "job": "agents",
                "namespace": "shop",
                **whose,
                **({label: value} if label else {}),
            }
            self.pod_counters[tuple(labels.items())] += amount


def _of_router(number: int, name: str, labels: Mapping[str, str] | None = None) -> Labels:
    process = {
        "instance": f"10.0.{number}.1:9902",
        "job": "routers",
        "namespace": "routing",
        "pod": f"router-{number}",
    }
    return tuple({"__name__": name, **process, **(labels or {})}.items())


def _series(samples: Mapping[Labels, list[tuple[float, float]]]) -> tuple[Series, ...]:
    return tuple(Series(dict(labels), tuple(taken)) for labels, taken in samples.items())


def _json(labels: Mapping[str, str], samples: Iterable[tuple[float, float]]) -> str:
    values = [[round(time, 3), f"{value:g}" if value % 1 else f"{value:.0f}"] for time, value in samples]
    return json.dumps({"metric": labels, "values": values}, separators=(",", ":"))


def delivering(number: int, routers: int, per_minute: float) -> ExposedRollout:
    """A rollout that has had a candidate at 10 % for some minutes."""
    spec: dict[str, Any] = {
        "analysis": {"interval": "15s", "metrics": [{"name": name} for name in METRICS]},
        "stages": [{"weight": "10%", "minDuration": "8h"}, {"weight": "100%"}],
    }
    rollout = rollout_of(f"http://stable-{number}", **spec)
    name = f"r{number}"
    world = ExposedRollout(
        rollout.model_copy(update={"metadata": rollout.metadata.model_copy(update={"name": name})}),
        CATALOGUE,
        name=name,
        routers=routers,
        per_second=per_minute / 60,
        seed=number,
    )
    world.scrape = world.rollout.spec.analysis.interval
    world.settle()
    world.live(120)
    world.want(f"http://candidate-{number}")
    world.live(150)
    return world


def keep(directory: Path, at: float, worlds: Iterable[ExposedRollout], since: float) -> int:
    """Let `serve` know what Prometheus has at an instant; gives its size."""
    known: dict[str, str] = {}
    for world in worlds:
        known |= {whose: ",".join(parts) for whose, parts in world.answers(since).items()}
    (directory / f"{at:.3f}").write_bytes(pickle.dumps(known))
    return sum(map(len, known.values()))


def serve(directory: Path, told: Connection) -> None:
    """Answer queries as Prometheus does, in a process of its own; tells its port."""

    @lru_cache(maxsize=1)
    def known(at: str) -> dict[str, str]:
        answers: dict[str, str] = pickle.loads((directory / at).read_bytes())
        return answers

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            answers = known(form["time"][0])
            whose = set(re.findall(r"shop/(r\d+)/|(sha256:[0-9a-f]{64})", form["query"][0]))
            names = {one or other for one, other in whose} or {""}
            result = ",".join(answers[name] for name in sorted(names) if name in answers)
            body = f'{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    told.send(server.server_port)
    server.serve_forever()
