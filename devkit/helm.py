"""Runs Helm, on charts alone or against one cluster."""

import os
import subprocess
import tempfile
from pathlib import Path

from devkit.errors import DevkitError
from devkit.toolchain import Toolchain

_LONGEST_SECONDS = 120.0


class Helm:
    """Helm with nothing of the user's: no repositories, no plugins, no cluster unless it is named.

    Usage::

        Helm(control_plane.kubeconfig).run("install", "agentrollout", "charts/agentrollout", "--namespace=agentrollout")
    """

    def __init__(self, kubeconfig: Path | None = None, *, toolchain: Toolchain | None = None) -> None:
        self._program = (toolchain or Toolchain()).find("helm")
        self._kubeconfig = kubeconfig

    def run(self, *args: str | Path, input: str | None = None) -> str:  # noqa: A002 - the name subprocess.run gives it
        """Run it and return its standard output.

        Raises:
            DevkitError: when it fails or takes longer than two minutes, with its words.
        """
        with tempfile.TemporaryDirectory(prefix="agentrollout-helm-") as home:
            environment = {key: os.environ[key] for key in ("PATH", "TMPDIR") if key in os.environ}
            environment |= {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
            environment |= {"HOME": home, "KUBECONFIG": str(self._kubeconfig or Path(home) / "none")}
            try:
                outcome = subprocess.run(
                    [self._program, *args],
                    input=input if input is not None else "",
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=_LONGEST_SECONDS,
                    env=environment,
                )
            except subprocess.TimeoutExpired as error:
                raise DevkitError(f"helm {args[0]} did not end within {_LONGEST_SECONDS:g} s.") from error
        if outcome.returncode != 0:
            raise DevkitError(f"helm {' '.join(map(str, args))} failed:\n{outcome.stderr.strip()}")
        return outcome.stdout
