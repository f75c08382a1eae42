from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from unittest.mock import Mock

import pytest

from devkit.cluster import Cluster
from devkit.envoy import Envoy
from devkit.process import Process
from devkit.prometheus import Prometheus
from examples.demo.errors import DemoError
from examples.demo.keep import how_to_look
from examples.demo.versions import AgentVersion
from examples.demo.world import World, kept_on_failure


@pytest.fixture
def world(tmp_path: Path) -> World:
    cluster = Mock(spec=Cluster, kubeconfig=tmp_path / "admin.kubeconfig")
    cluster.kubectl.return_value = '{"metadata": {"generation": 7}}'
    return World(
        directory=tmp_path,
        cluster=cluster,
        prometheus=Mock(spec=Prometheus, url="http://127.0.0.1:1"),
        operator=Mock(spec=Process, running=True),
        operator_url="http://127.0.0.1:2",
        shadow=Mock(spec=Process, running=True),
        shadow_url="http://127.0.0.1:5",
        records="sqlite:///comparisons.db",
        envoy=Mock(spec=Envoy, admin_url="http://127.0.0.1:3"),
        users_url="http://127.0.0.1:4",
        stack=ExitStack(),
        agents={"v1": "http://127.0.0.1:9001"},
    )


def test_a_version_is_applied_with_its_prompt_and_address(world: World, tmp_path: Path) -> None:
    assert world.apply(AgentVersion("v1", prompts={"system": "Be kind."})) == 7
    applied = (tmp_path / "support-agent-v1.yaml").read_text()
    assert "url: http://127.0.0.1:9001" in applied
    assert "system: Be kind." in applied
    assert "minRequests: 5" in applied
    assert "shadow" not in applied


def test_a_version_is_applied_with_its_shadow(world: World, tmp_path: Path) -> None:
    world.apply(AgentVersion("v1"), {"fraction": "30%"})
    assert "shadow:\n    fraction: 30%" in (tmp_path / "support-agent-v1.yaml").read_text()


def test_counting_needs_two_scrapes(world: World) -> None:
    for scrapes, enough in (("1", False), ("2", True)):
        world.prometheus.query.return_value = [{"metric": {}, "value": [0, scrapes]}]  # type: ignore[attr-defined]
        assert world.is_scraped() is enough


def test_a_part_that_ended_is_named_with_the_end_of_its_log(world: World) -> None:
    world.check()
    world.operator = Mock(
        spec=Process, running=False, returncode=3, log=Path("operator.log"), log_tail=lambda: "a\nb\nc\nd\n"
    )
    world.operator.name = "operator"
    with pytest.raises(
        DemoError, match=r"operator ended with code 3\. Its log operator\.log ends with:\nb\nc\nd$"
    ):
        world.check()


def test_a_kept_demo_says_how_to_look_at_it(world: World, tmp_path: Path) -> None:
    text = how_to_look(world, "sha256:2")
    for words in (f"export KUBECONFIG={tmp_path}/admin.kubeconfig", "http://127.0.0.1:1", "http://127.0.0.1:2/metrics", ":2/readyz", ":2/artifacts/sha256:2",
                  "http://127.0.0.1:3", "host: support.example.com", "-n shop get aro", "Ctrl-C"):  # fmt: skip
        assert words in text
    assert max(map(len, text.replace(str(tmp_path), "/tmp/agentrollout-demo-12345678").splitlines())) <= 100


@pytest.mark.parametrize("installed", [None, "/usr/bin/kubectl"])
def test_an_alias_is_given_to_those_who_have_no_kubectl(
    world: World, monkeypatch: pytest.MonkeyPatch, installed: str | None
) -> None:
    monkeypatch.setattr("examples.demo.keep.shutil.which", lambda _: installed)
    monkeypatch.setattr("examples.demo.keep.Toolchain", lambda: Mock(find=lambda name: Path("/built") / name))
    assert ("alias kubectl=/built/kubectl" in how_to_look(world, "")) is (installed is None)


@pytest.mark.parametrize(
    ("raised", "kept"), [(None, False), (KeyboardInterrupt(), False), (DemoError("No."), True)]
)
def test_logs_are_kept_when_something_went_wrong(
    tmp_path: Path, raised: BaseException | None, kept: bool
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with suppress(KeyboardInterrupt, DemoError), kept_on_failure(logs):
        if raised:
            raise raised
    assert logs.exists() is kept
