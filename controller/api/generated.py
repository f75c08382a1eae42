"""Files generated from the models: written, or only checked for being current."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def publish(files: Mapping[Path, str], arguments: list[str], *, target: str) -> int:
    """Write the files; with ``--check`` only say which are not current. The result is the exit code.

    Args:
        files: The wanted text of each file.
        arguments: The command line without the program's name.
        target: The make target that writes them.
    """
    if unknown := [argument for argument in arguments if argument != "--check"]:
        sys.stderr.write(f"unknown arguments: {' '.join(unknown)}; the only one is --check\n")
        return 2
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    if "--check" in arguments:
        if stale:
            names = ", ".join(sorted(path.name for path in stale))
            sys.stderr.write(f"not current: {names}; run `make {target}` and commit the result\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    return 0
