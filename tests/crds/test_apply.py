"""What a user types first: `kubectl apply -f crds/`, then `-f examples/`, without further options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.crdgen import KINDS
from controller.api.policy import BINDING, POLICY
from devkit.controlplane import ControlPlane

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
MOST_BYTES = 256 * 1024
"""`kubectl apply` keeps a copy of the object in an annotation, which may not be larger."""


@pytest.fixture(scope="module")
def fresh() -> Iterator[ControlPlane]:
    """An API server that has never seen our CRDs."""
    with ControlPlane() as control_plane:
        yield control_plane


def crds(control_plane: ControlPlane) -> list[dict[str, Any]]:
    names = [f"{kind.plural}.agentrollout.dev" for kind in KINDS]
    found: list[dict[str, Any]] = json.loads(control_plane.kubectl("get", "crd", *names, "-o", "json"))[
        "items"
    ]
    return found


@pytest.fixture(scope="module")
def applied(fresh: ControlPlane) -> ControlPlane:
    """The same after a user's first two commands."""
    fresh.kubectl("apply", "--warnings-as-errors", "-f", str(ROOT / "crds"))
    fresh.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    fresh.kubectl("apply", "--warnings-as-errors", "-f", str(ROOT / "examples"))
    return fresh


def test_plain_apply_of_crds_then_examples_works(applied: ControlPlane) -> None:
    examples = applied.kubectl("get", "aro", "-o", "name").split()
    assert len(examples) == len(EXAMPLES) >= 3


def test_applying_again_changes_nothing(applied: ControlPlane) -> None:
    objects = [each for path in EXAMPLES for each in yaml.safe_load_all(path.read_text())]
    beside_the_crds = len((POLICY, BINDING))
    assert (
        applied.kubectl("apply", "-f", str(ROOT / "crds")).count("unchanged") == len(KINDS) + beside_the_crds
    )
    assert applied.kubectl("apply", "-f", str(ROOT / "examples")).count("unchanged") == len(objects)


def test_the_crds_are_structural_and_their_names_are_taken(applied: ControlPlane) -> None:
    for crd in crds(applied):
        conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}
        assert (
            crd["spec"]["preserveUnknownFields"] is False if "preserveUnknownFields" in crd["spec"] else True
        )


def test_the_crds_fit_the_annotation_of_client_side_apply() -> None:
    for path in (ROOT / "crds").glob("*.yaml"):
        assert len(json.dumps(list(yaml.safe_load_all(path.read_text())))) < MOST_BYTES / 2


@pytest.mark.parametrize("name", ["aro", "agentrollout", "agentrollouts"])
def test_rollouts_are_found_by_each_of_their_names(name: str, applied: ControlPlane) -> None:
    assert "minimal" in applied.kubectl("get", name)


def test_the_category_lists_all_kinds(applied: ControlPlane) -> None:
    resources = applied.kubectl("api-resources", "--categories=agents", "-o", "name").split()
    assert sorted(resources) == [
        f"{plural}.agentrollout.dev" for plural in ("agentrevisions", "agentrollouts", "rolloutactions")
    ]
    assert "agentrollout.agentrollout.dev/minimal" in applied.kubectl("get", "agents", "-o", "name")


@pytest.mark.parametrize("name", ["arev", "ract"])
def test_the_other_kinds_have_short_names(name: str, applied: ControlPlane) -> None:
    assert applied.kubectl("get", name, "-o", "name") == ""


def test_the_policy_of_actions_and_its_binding_come_with_the_crds(applied: ControlPlane) -> None:
    for each in (POLICY, BINDING):
        name, kind = each["metadata"]["name"], each["kind"].lower()
        assert applied.kubectl("get", kind, name, "-o", "name").strip().endswith(f"/{name}")
