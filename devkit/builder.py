"""Builds pinned Go programs once into a per-user cache."""

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from devkit.errors import DevkitError
from devkit.golang import build_environment, find_go, required_version

_GO_MODULES = Path(__file__).with_name("go")
_LONGEST_BUILD_SECONDS = 3600.0


@dataclass(frozen=True)
class Module:
    """A Go module with pinned dependencies; its folder holds go.mod and go.sum."""

    folder: Path
    flags: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Changes when a dependency or a flag does; toolchains are not part of it, any new enough one will do."""
        digest = hashlib.sha256()
        for part in (
            (self.folder / "go.mod").read_bytes(),
            (self.folder / "go.sum").read_bytes(),
            repr(self.flags).encode(),
        ):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Program:
    """One program of a module."""

    name: str
    module: Module
    package: str


_STRIPPED = "-s -w"
_KUBERNETES_VERSION = " ".join(
    f"-X k8s.io/component-base/version.{variable}={value}"
    for variable, value in (("gitVersion", "v1.37.2"), ("gitMajor", "1"), ("gitMinor", "37"))
)
_CONTROL_PLANE = Module(_GO_MODULES / "controlplane", ("-ldflags", f"{_STRIPPED} {_KUBERNETES_VERSION}"))
_PROMETHEUS = Module(_GO_MODULES / "prometheus", ("-tags", "remove_all_sd", "-ldflags", _STRIPPED))
_HELM = Module(
    _GO_MODULES / "helm",
    ("-ldflags", f"{_STRIPPED} -X helm.sh/helm/v4/internal/version.version=v4.3.1"),
)
_VEGETA = Module(_GO_MODULES / "vegeta", ("-ldflags", _STRIPPED))

PROGRAMS = {
    program.name: program
    for program in (
        Program("etcd", _CONTROL_PLANE, "go.etcd.io/etcd/server/v3"),
        Program("kube-apiserver", _CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-apiserver"),
        Program("kube-controller-manager", _CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-controller-manager"),
        Program("kubectl", _CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubectl"),
        Program("helm", _HELM, "helm.sh/helm/v4/cmd/helm"),
        Program("prometheus", _PROMETHEUS, "github.com/prometheus/prometheus/cmd/prometheus"),
        Program("vegeta", _VEGETA, "github.com/tsenart/vegeta/v12"),
    )
}


def cache_root() -> Path:
    """Return where builds are kept: `$XDG_CACHE_HOME/agentrollout/devkit` or `~/.cache/…`."""
    return platformdirs.user_cache_path("agentrollout", appauthor=False) / "devkit"


def cached(program: Program, cache: Path) -> Path:
    """Return where the built program is or will be."""
    return cache / program.module.fingerprint / "bin" / program.name


def ensure_built(programs: Sequence[Program], cache: Path, console: Console) -> None:
    """Build what is missing; when somebody else builds it already, wait for them.

    Raises:
        DevkitError: when there is no Go toolchain or a build fails, with the compiler's words.
    """
    missing = [program for program in programs if not cached(program, cache).exists()]
    for number, program in enumerate(missing, start=1):
        target = cached(program, cache)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent.parent / "build.lock", console):
            if not target.exists():
                _build(program, target, console, f"{program.name} ({number} of {len(missing)})")


@contextlib.contextmanager
def _locked(path: Path, console: Console) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        console.print(f"Another process is building here; waiting for it ({path}).")
        lock.acquire(timeout=_LONGEST_BUILD_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _build(program: Program, target: Path, console: Console, title: str) -> None:
    """Build beside the target and rename: a cut build leaves nothing that looks finished."""
    go = find_go(required_version(program.module.folder / "go.mod"))
    # Left from a build that was killed; nobody else is here, the lock is ours.
    for leftover in target.parent.parent.glob("building-*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix="building-", dir=target.parent.parent) as scratch:
        result = Path(scratch) / program.name
        command = [str(go.path), "build", "-o", str(result), *program.module.flags, program.package]
        began = time.monotonic()
        with _progress(title, console):
            outcome = subprocess.run(
                command,
                cwd=program.module.folder,
                env=build_environment(go),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if outcome.returncode != 0:
            raise DevkitError(
                f"Building {program.name} with {go.path} failed:\n{outcome.stdout[-4000:]}\n"
                "If modules could not be downloaded, check GOPROXY; then run `make build` again, it goes on where it was."
            )
        result.replace(target)
    console.print(f"Built {program.name} in {time.monotonic() - began:.0f} s.")


@contextlib.contextmanager
def _progress(title: str, console: Console) -> Iterator[None]:
    """Show that something happens: a ticking clock on a terminal, one line elsewhere."""
    if not console.is_terminal:
        console.print(f"Building {title}; the first time this takes minutes.")
        yield
        return
    columns = (SpinnerColumn(), TextColumn("Building {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(title, total=None)
        yield
