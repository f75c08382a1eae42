"""How errors reach people: as a sentence, and as an exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What ``agentrollout`` exits with."""

    OK = 0
    FAILED = 1
    """Something went wrong while running; the message says what."""
    USAGE = 2
    """The command line or the environment is wrong; the message names the setting."""
