"""Runs Helm, on charts alone or against one cluster."""

import os
import tempfile
from pathlib import Path

from devkit.running import run_program
from devkit.toolchain import Toolchain


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
            return run_program("helm", [self._program], args, input, environment)
