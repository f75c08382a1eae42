"""Runs kubectl against one cluster."""

import os
from collections.abc import Sequence
from pathlib import Path

from devkit.running import run_program


def run_kubectl(kubectl: Path, kubeconfig: Path, args: Sequence[str], stdin: str | None) -> str:
    """Run kubectl and return its standard output.

    Its discovery cache is kept beside the kubeconfig: it is keyed by host and port, and ports are used again.

    Raises:
        DevkitError: when it fails or takes longer than two minutes, with its words.
    """
    command: list[str | Path] = [
        kubectl,
        f"--kubeconfig={kubeconfig}",
        f"--cache-dir={kubeconfig.parent / 'kubectl-cache'}",
    ]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    return run_program("kubectl", command, args, stdin, environment)
