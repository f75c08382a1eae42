"""What kubectl shows: columns, descriptions, explanations."""

from __future__ import annotations

import json
import re

import pytest

from devkit.controlplane import ControlPlane
from tests.crds.refusals import rollout
from tests.crds.status import CANDIDATE, MESSAGE, patch_status, progressing
from tests.crds.test_revisions import ID, revision


@pytest.fixture
def delivery(control_plane: ControlPlane, namespace: str) -> str:
    """The namespace of a rollout in the middle of its delivery."""
    manifest = json.dumps(rollout("support-agent"))
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=manifest)
    patch_status(control_plane, namespace, progressing())
    return namespace


def table(printed: str) -> dict[str, str]:
    """The only row of a kubectl table by its headings, which stand where their columns begin."""
    head, row = printed.splitlines()
    starts = {heading.group(): heading.start() for heading in re.finditer(r"\S+", head)}
    ends = [*list(starts.values())[1:], None]
    return {
        heading: row[start:end].strip() for (heading, start), end in zip(starts.items(), ends, strict=True)
    }


def test_get_shows_where_the_delivery_is(control_plane: ControlPlane, delivery: str) -> None:
    shown = table(control_plane.kubectl("get", "aro", "-n", delivery))
    assert shown.pop("AGE")
    assert shown == {
        "NAME": "support-agent",
        "STABLE": "support-agent-3f9a1c2b7d",
        "CANDIDATE": "support-agent-b81c55e0aa",
        "STAGE": "10%",
        "WEIGHT": "10%",
        "STATE": "Progressing",
        "VERDICT": "Insufficient",
    }


def test_get_wide_says_what_it_waits_for(control_plane: ControlPlane, delivery: str) -> None:
    shown = table(control_plane.kubectl("get", "aro", "-n", delivery, "-o", "wide"))
    assert shown["MESSAGE"] == MESSAGE


def test_describe_tells_the_whole_story(control_plane: ControlPlane, delivery: str) -> None:
    lines = [
        line.split(maxsplit=1)
        for line in control_plane.kubectl("describe", "aro", "-n", delivery).splitlines()
    ]
    told = {" ".join(line) for line in lines}
    assert {"State: Progressing", "Verdict: Insufficient", f"Message: {MESSAGE}"} <= told
    assert {"Reason: AwaitingEvidence", "Reason: AnalysisFailed"} <= told
    assert f"Artifact ID: {CANDIDATE}" in {text.replace("ID:  ", "ID: ") for text in told}


def test_get_shows_what_a_revision_is_made_of(control_plane: ControlPlane, namespace: str) -> None:
    agent = rollout()["spec"]["agent"] | {"model": {"provider": "openai", "name": "gpt-x"}}
    control_plane.kubectl("create", "-n", namespace, "-f", "-", input=revision(agent=agent))
    shown = table(control_plane.kubectl("get", "arev", "-n", namespace, "-o", "wide"))
    assert shown.pop("AGE")
    assert shown == {
        "NAME": "agent-3f9a1c2b7d",
        "ROLLOUT": "agent",
        "MODEL": "gpt-x",
        "CODE": "http://agent-v1.example:8080",
        "ARTIFACT": ID,
    }


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("aro", "Delivers new versions of one agent step by step and takes them back on evidence."),
        ("aro.spec.stages", "Left out: 1%, 10%, 50%, 100%."),
        ("aro.spec.stages.minDuration", "The stage lasts at least this long. Default: 10m."),
        ("aro.spec.delivery", "Default: Deployed."),
        ("aro.spec.agent.code.url", "http(s)://host[:port]"),
        ("aro.spec.analysis.metrics.name", "errors counts answers with 5xx, broken and timed-out requests."),
        ("aro.status.programmed", "The share that the data plane acknowledged."),
        ("arev.spec.artifactID", "RFC 8785"),
    ],
)
def test_explain_reads_well(field: str, sentence: str, control_plane: ControlPlane) -> None:
    explained = " ".join(control_plane.kubectl("explain", field).split())
    assert sentence in explained
    assert "``" not in explained


def test_a_reason_that_the_crd_does_not_know_yet_is_stored(
    control_plane: ControlPlane, delivery: str
) -> None:
    status = progressing()
    status["lastRollback"]["reason"] = status["state"] = "FromANewerOperator"
    patch_status(control_plane, delivery, status)
    assert table(control_plane.kubectl("get", "aro", "-n", delivery))["STATE"] == "FromANewerOperator"
