from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import examples
from controller.api.rollout import AgentRollout
from controller.core.stages import title
from examples.demo import acts, versions

FOLDER = Path(examples.__file__).parent
MANIFESTS = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("demo/*.yaml")])


def read(path: Path) -> AgentRollout:
    (raw,) = (each for each in yaml.safe_load_all(path.read_text()) if each["kind"] == "AgentRollout")
    return AgentRollout.model_validate({**raw, "metadata": {"namespace": "default", **raw["metadata"]}})


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_examples_are_rollouts_whose_comments_say_why(path: Path) -> None:
    assert path.read_text().startswith("# ")
    code = read(path).spec.agent.code
    assert code.url or code.service


def test_examples_do_not_take_each_others_names_or_hosts() -> None:
    rollouts = [read(path) for path in FOLDER.glob("*.yaml")]
    hosts = [host for rollout in rollouts for host in rollout.spec.traffic.envoy.hosts]
    assert len({rollout.metadata.name for rollout in rollouts}) == len(rollouts) == 8
    assert len(set(hosts)) == len(hosts)


def test_the_demo_passes_internal_users_and_four_weights() -> None:
    stages = read(FOLDER / "demo" / "rollout.yaml").spec.stages
    assert [title(stage) for stage in stages] == ["internal", "1%", "10%", "50%", "100%"]
    assert sum(stage.min_duration.total_seconds() for stage in stages) < 60


def test_every_version_of_the_demo_is_another_artifact() -> None:
    played = [versions.first(), *(act.version for act in acts.all_acts())]
    agents = [str(version.manifest_agent("http://127.0.0.1:1")) for version in played]
    assert len(set(agents)) == len({version.name for version in played}) == 5
