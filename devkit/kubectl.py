"""Runs kubectl against one cluster."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from devkit.errors import DevkitError

_LONGEST_SECONDS = 120.0


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
        *args,
    ]
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    try:
        outcome = subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise DevkitError(f"kubectl {' '.join(args)} did not end within {_LONGEST_SECONDS:g} s.") from error
    if outcome.returncode != 0:
        raise DevkitError(f"kubectl {' '.join(args)} failed:\n{outcome.stderr.strip()}")
    return outcome.stdout
