import sys
from pathlib import Path
from typing import Self

import pytest

from devkit import cluster
from devkit.cluster import open_cluster
from devkit.errors import DevkitError


class Local:
    """Stands for the local control plane, so that none is started here."""

    def __init__(self, **_: object) -> None:
        self.kubeconfig = Path("local")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of its own; `calls` in it lists what was run."""
    folder = tmp_path / "machine"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(cluster, "ControlPlane", Local)
    return folder


def install(machine: Path, name: str, *, exit_code: int = 0, says: str = "") -> None:
    program = machine / name
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f'open("{machine}/calls", "a").write("{name} " + " ".join(sys.argv[1:3]) + "\\n")\n'
        f"print({says!r})\nsys.exit({exit_code})\n"
    )
    program.chmod(0o755)


def calls(machine: Path) -> list[str]:
    return (machine / "calls").read_text().splitlines()


def test_a_named_kubeconfig_comes_first(machine: Path, tmp_path: Path) -> None:
    install(machine, "docker")
    install(machine, "kind")
    named = tmp_path / "named"
    named.touch()
    with open_cluster(tmp_path, kubeconfig=named) as found:
        assert found.kubeconfig == named
    assert not (machine / "calls").exists()


def test_where_docker_answers_a_kind_cluster_is_made_and_deleted(machine: Path, tmp_path: Path) -> None:
    install(machine, "docker")
    install(machine, "kind")
    with open_cluster(tmp_path) as found:
        assert found.kubeconfig == tmp_path / "kind.kubeconfig"
    assert [call.split(" --")[0] for call in calls(machine)] == [
        "docker info",
        "kind get clusters",
        "kind create cluster",
        "kind delete cluster",
    ]


def test_a_kind_cluster_that_was_there_is_left_there(machine: Path, tmp_path: Path) -> None:
    install(machine, "docker")
    install(machine, "kind", says="agentrollout-devkit")
    with open_cluster(tmp_path):
        pass
    assert calls(machine)[1:] == ["kind get clusters", "kind export kubeconfig"]


def test_a_failing_kind_is_quoted(machine: Path, tmp_path: Path) -> None:
    install(machine, "docker")
    install(machine, "kind", exit_code=1)
    with pytest.raises(DevkitError, match="kind get clusters failed"), open_cluster(tmp_path):
        pass


@pytest.mark.parametrize("docker", [None, 1])
def test_without_docker_it_is_the_local_control_plane(
    machine: Path, tmp_path: Path, docker: int | None
) -> None:
    install(machine, "kind")
    if docker is not None:
        install(machine, "docker", exit_code=docker)
    with open_cluster(tmp_path) as found:
        assert found.kubeconfig == Path("local")
