"""Runs one program to its end, for its output."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from devkit.errors import DevkitError

_LONGEST_SECONDS = 120.0


def run_program(
    name: str,
    command: Sequence[str | Path],
    args: Sequence[str | Path],
    stdin: str | None,
    env: Mapping[str, str],
) -> str:
    """Run it and return its standard output.

    Args:
        name: What the program is called in errors.
        command: The program, with options that are no news to whoever reads an error.
        args: What it is to do.
        stdin: Its input; None for nothing.
        env: All of its environment.

    Raises:
        DevkitError: when it fails or takes longer than two minutes, with its words.
    """
    told = " ".join(map(str, (name, *args)))
    try:
        outcome = subprocess.run(
            [*command, *args],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_SECONDS,
            env=env,
        )
    except subprocess.TimeoutExpired as error:
        raise DevkitError(f"{told} did not end within {_LONGEST_SECONDS:g} s.") from error
    if outcome.returncode != 0:
        raise DevkitError(f"{told} failed:\n{outcome.stderr.strip()}")
    return outcome.stdout
