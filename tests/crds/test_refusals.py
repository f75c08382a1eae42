"""Each rule of the API, broken once: `kubectl apply` says which field is wrong, and how, in words for people."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from devkit.controlplane import ControlPlane
from devkit.errors import DevkitError
from tests.crds.refusals import EVIDENCE_OF_NOBODY, INTERNAL, REFUSALS, Refusal, changed, rollout, stages

NOT_FOR_PEOPLE = (
    "should match '",
    "evaluating rule",
    "type conversion error",
    "no such key",
    "index out of bounds",
)


@pytest.fixture(scope="module")
def shop(control_plane: ControlPlane) -> Iterator[str]:
    """One namespace for all: nothing that is refused is left in it."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


def complaints(error: DevkitError) -> list[str]:
    """The lines that say what is wrong; the API server's remark that it stopped checking is none."""
    lines = (line.rpartition("is invalid: ")[2].removeprefix("* ") for line in str(error).splitlines())
    return [line for line in lines if not line.startswith("<nil>: Invalid value: null")]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_apply_refuses(refusal: Refusal, control_plane: ControlPlane, shop: str) -> None:
    with pytest.raises(DevkitError) as refused:
        control_plane.kubectl("apply", "-n", shop, "-f", "-", input=json.dumps(refusal.manifest()))
    said = complaints(refused.value)
    assert any(refusal.field in line and refusal.words in line for line in said), said
    assert not [line for line in said for poor in NOT_FOR_PEOPLE if poor in line]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.stages", stages("0.0001%", "99.9999%", "100.0000%")),
        ("spec.stages", stages("1", "12.5", "100")),
        ("spec.stages", stages("100%")),
        ("spec.stages", stages("1%", {"audience": INTERNAL, "weight": "5%"}, "100%")),
        ("spec.stages", stages(*(f"{n}%" for n in range(1, 16)), "100%")),
        ("spec.stages", stages({"weight": "100%", "minDuration": "9999d99999h999999m"})),
        ("spec.stages", stages({"weight": "100%", "minDuration": "1ms", "minRequests": 1})),
        (
            "spec.stages",
            stages({"weight": "1%", "approval": {}}, {"weight": "100%", "approval": {"required": 10}}),
        ),
        (
            "spec.windows",
            [
                {
                    "cron": "*/5 0-23 1,15 jan-dec/2 mon-fri",
                    "duration": "9999d",
                    "timeZone": "America/Argentina/Buenos_Aires",
                }
            ]
            * 16,
        ),
        ("spec.shadow", {}),
        (
            "spec.shadow",
            {
                "fraction": "50%",
                "noise": "0%",
                "judge": "x" * 63,
                "minComparisons": 1_000_000,
                "minDuration": "9999d99999h999999m",
                "maxDuration": "9999d99999h999999m",
                "timeout": "10m",
                "removeHeaders": [f"h{n:0127}" for n in range(32)],
                "alsoInStages": True,
            },
        ),
        ("spec.shadow", {"minDuration": "1h", "maxDuration": "60m", "timeout": "1s"}),
        ("spec.analysis", {"interval": "100ms", "falseRollbackRate": "50%", "clustering": 1}),
        (
            "spec.analysis.metrics",
            [{"name": n} for n in ("errors", "latency", "toolErrors", "tokensPerTask", "cost")],
        ),
        (
            "spec.analysis.metrics",
            [
                {
                    "name": "own-" + "abcdefghijklmnop"[n] * 59,
                    "total": {
                        "metric": "x" * 256,
                        "labels": {m.ljust(128, "_"): "x" * 256 for m in "abcdefgh"},
                    },
                    "good": {"metric": "a:b_bucket", "labels": {"le": "0.25", "error_type": ""}},
                    "version": {"label": "x" * 128, "form": "Revision"},
                }
                for n in range(16)
            ],
        ),
        (
            "spec.analysis.metrics",
            [{"name": "toolErrors", "convention": "OpenTelemetry", "version": {"label": "agent_version"}}],
        ),
        ("spec.analysis", {"advanceOn": "Evidence", "maxRatio": 1.1}),
        ("spec", EVIDENCE_OF_NOBODY | {"stages": stages({"audience": INTERNAL}, "100%")}),
        ("spec", EVIDENCE_OF_NOBODY | {"analysis": {"advanceOn": "Time", "maxRatio": 100}}),
        (
            "spec.analysis.guardrails",
            [
                {"name": "toolErrors", "maxShare": "0.1%", "window": "1h", "action": "Hold"},
                {"name": "latency", "factor": 1.1, "action": "Alert"},
                {"name": "tokensPerTask", "expected": 1, "minSamples": 11},
                {"name": "own", "query": "u" * 2048, "max": 0.5, "min": 0, "for": "1ms", "samples": "u"},
                {"name": "other-0", "query": "$artifact", "min": -1, "action": "Alert"},
                {"name": "dailyCost", "factor": 1.2, "labels": {"job": "support"}, "action": "Rollback"},
            ],
        ),
        ("spec.agent.code.url", "https://[2001:db8::1]:65535/"),
        ("spec.agent.code", {"service": {"name": "support-agent-v7", "port": 8080}}),
        ("spec.agent.code.url", "http://agent_v7.Shop.svc.cluster.local."),
        ("spec.agent.prompts", {"system": "x" * 131_072}),
        ("spec.agent.prompts", {f"{n}": "x" * 4_096 for n in range(32)}),
        (
            "spec.agent.promptsFrom",
            {"x" * 128: {"secretKeyRef": {"name": "a." * 126 + "a", "key": "._-" + "A" * 250}}}
            | {f"{n}": {"configMapKeyRef": {"name": "prompts", "key": "v1"}} for n in range(30)},
        ),
        ("spec.agent.dependencies", {f"tools/{n}": "1.0" for n in range(256)}),
        ("spec.traffic.envoy.hosts", [f"{n}.example" for n in range(16)]),
        ("spec.traffic.affinity.header", "cookie"),
        ("metadata.name", "x" * 52),
    ],
)
def test_apply_accepts_what_is_just_within_the_rules(
    path: str, value: Any, control_plane: ControlPlane, shop: str
) -> None:
    manifest = json.dumps(changed(path, value, name="accepted"))
    printed = control_plane.kubectl("apply", "-n", shop, "--dry-run=server", "-f", "-", input=manifest)
    assert printed.strip().endswith("created (server dry run)")


def test_a_change_for_the_worse_is_refused_and_the_stored_object_stays(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=json.dumps(rollout("agent")))
    patch = json.dumps({"spec": {"stages": stages("10%")}})
    with pytest.raises(DevkitError, match="the last stage must have weight 100%"):
        control_plane.kubectl("patch", "aro", "agent", "-n", namespace, "--type=merge", f"--patch={patch}")
    stored = json.loads(control_plane.kubectl("get", "aro", "agent", "-n", namespace, "-o", "json"))
    assert "stages" not in stored["spec"]
