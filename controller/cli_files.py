"""What the commands that look at evidence share: the rollout in a file, and where their tables go."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from controller.api.rollout import AgentRollout
from controller.cli_values import fail
from controller.errors import ExitCode
from controller.manifests import ManifestError, read_rollout

WIDTH = 100
"""Tables are made for a terminal of so many columns; a narrower one is filled."""


def terminal() -> Console:
    """Where tables and sentences go."""
    return Console(width=min(Console().width, WIDTH), highlight=False)


def read_file(path: Path) -> AgentRollout:
    """The AgentRollout in a file, or the end of the command."""
    try:
        return read_rollout(path)
    except ManifestError as error:
        fail(str(error), ExitCode.USAGE)
