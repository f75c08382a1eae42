"""The chart, its scenarios, and what Helm makes of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from devkit.helm import Helm

Raw = dict[str, Any]

CHART = Path(__file__).parents[2] / "charts" / "agentrollout"
SCENARIOS = tuple(sorted((CHART / "ci").glob("*-values.yaml")))
RELEASE, NAMESPACE = "rel", "delivery"


@functools.cache
def objects(values: Path) -> tuple[Raw, ...]:
    """Everything that a scenario installs, hooks included; not to be changed, it is rendered once."""
    text = Helm().run("template", RELEASE, CHART, f"--namespace={NAMESPACE}", f"--values={values}")
    return tuple(found for found in yaml.load_all(text, yaml.CSafeLoader) if found)


def pod_templates(values: Path) -> Iterator[tuple[str, Raw]]:
    """Kind and name, and the pod, of whatever has or is one."""
    for found in objects(values):
        name = f"{found['kind']}/{found['metadata']['name']}"
        if found["kind"] == "Pod":
            yield name, found
        elif "template" in found.get("spec", {}):
            yield name, found["spec"]["template"]


def one(values: Path, kind: str, name: str) -> Raw:
    """The object of this kind whose name ends so."""
    (found,) = (
        each for each in objects(values) if each["kind"] == kind and each["metadata"]["name"].endswith(name)
    )
    return found


def containers(pod: Raw) -> list[Raw]:
    """All containers of a pod."""
    found: list[Raw] = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    return found
