"""AgentRollouts in every state that the demo shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

import examples.demo
from controller.api.rollout import AgentRollout

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
STABLE = {"revision": "support-agent-1111111111", "artifactID": "sha256:1"}
CANDIDATE = {"revision": "support-agent-2222222222", "artifactID": "sha256:2"}


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(0)}


PROGRAMMED = condition("Programmed", "True", "Programmed")


def rollout(**status: Any) -> AgentRollout:
    manifest = yaml.safe_load(Path(examples.demo.__file__).with_name("rollout.yaml").read_text())
    defaults = {"observedGeneration": 1, "state": "Stable", "stable": STABLE, "conditions": [PROGRAMMED]}
    return AgentRollout.model_validate({**manifest, "status": {**defaults, **status}})


def metric(name: str, verdict: str, bad: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "verdict": verdict,
        "candidate": {"bad": bad, "total": 80},
        "baseline": {"bad": 1, "total": 200},
        "evidence": 1.25,
        "threshold": 2000,
        "message": "in words",
    }


def staged(index: int = 2, title: str = "10%", *, programmed: bool = True, **status: Any) -> AgentRollout:
    stage = {"index": index, "title": title, "weight": title if "%" in title else "100%", "enteredAt": at(1)}
    if programmed:
        stage["programmedAt"] = at(1.012)
    defaults = {
        "state": "Progressing",
        "candidate": CANDIDATE,
        "stage": stage,
        "weight": "10%",
        "programmed": "10%",
    }
    return rollout(**{**defaults, **status})


def promoted() -> AgentRollout:
    return rollout(stable=CANDIDATE)


def taken_back(name: str = "errors", **status: Any) -> AgentRollout:
    record = {
        "artifactID": "sha256:2",
        "reason": "AnalysisFailed",
        "metric": name,
        "message": "worse than stable",
        "at": at(9),
        "stage": "1%",
    }
    return rollout(state="RolledBack", lastRollback=record, programmed="0%", **status)
