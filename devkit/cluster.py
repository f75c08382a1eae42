"""Chooses a Kubernetes API: the one that is named, kind where Docker answers, else a local control plane."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devkit.controlplane import ControlPlane
from devkit.errors import DevkitError
from devkit.kubectl import run_kubectl
from devkit.toolchain import Toolchain

_KIND_CONFIG = Path(__file__).parent.parent / "kind-config.yaml"
_KIND_NAME = "agentrollout-devkit"


class Cluster(Protocol):
    """What every kind of cluster offers; test users and a process to kill only a `ControlPlane` has."""

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of an administrator."""
        ...

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - the name subprocess.run gives it
        """Run kubectl as that administrator and return what it printed; DevkitError when it fails."""
        ...


@dataclass(frozen=True)
class ExistingCluster:
    """A cluster that runs anyway, through the current context of a kubeconfig."""

    kubeconfig: Path
    _toolchain: Toolchain = field(default_factory=Toolchain)

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - the name subprocess.run gives it
        """Run kubectl and return what it printed; DevkitError when it fails."""
        return run_kubectl(self._toolchain.find("kubectl"), self.kubeconfig, args, input)


@contextmanager
def open_cluster(directory: Path, *, kubeconfig: Path | None = None) -> Iterator[Cluster]:
    """Yield a cluster, keeping files in `directory`; on the way out goes what was created on the way in.

    Raises:
        DevkitError: when the named kubeconfig is not there, or nothing can be started.
    """
    if kubeconfig is not None:
        if not kubeconfig.exists():
            raise DevkitError(
                f"There is no kubeconfig at {kubeconfig}: name another one, or none to start a cluster."
            )
        yield ExistingCluster(kubeconfig)
    elif _docker_answers() and shutil.which("kind"):
        with _kind(directory) as cluster:
            yield cluster
    else:
        with ControlPlane(controllers=True, directory=directory / "controlplane") as control_plane:
            yield control_plane


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        outcome = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return outcome.returncode == 0


@contextmanager
def _kind(directory: Path) -> Iterator[Cluster]:
    """Use the kind cluster of this name; one that was not there before is deleted at the end."""
    kubeconfig = directory / "kind.kubeconfig"
    created = _KIND_NAME not in _run_kind("get", "clusters").split()
    try:
        if created:
            _run_kind(
                "create", "cluster", f"--config={_KIND_CONFIG}", f"--kubeconfig={kubeconfig}", "--wait=120s"
            )
        else:
            _run_kind("export", "kubeconfig", f"--name={_KIND_NAME}", f"--kubeconfig={kubeconfig}")
        yield ExistingCluster(kubeconfig)
    finally:
        if created:
            _run_kind("delete", "cluster", f"--name={_KIND_NAME}", f"--kubeconfig={kubeconfig}")


def _run_kind(*args: str) -> str:
    outcome = subprocess.run(["kind", *args], capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        raise DevkitError(f"kind {' '.join(args)} failed:\n{outcome.stderr.strip()}")
    return outcome.stdout
