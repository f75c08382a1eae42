"""One answer that lost to stable's in the shadow, as the product shows it to people."""

from __future__ import annotations

import os
import subprocess

from controller.adapters.records import SqlRecords
from controller.core.shadow.comparison import Bin
from examples.demo.errors import DemoError
from examples.demo.world import COMMAND, World

_SECONDS = 30


def lost_comparison(world: World, width: int) -> str:
    """What ``agentrollout shadow show`` prints of the newest loss.

    Args:
        world: What runs.
        width: Columns of the terminal.

    Raises:
        DemoError: If none is recorded.
    """
    records = SqlRecords(world.records)
    try:
        found = records.last(f"{world.namespace}/{world.name}", Bin.LOSS, 1)
    finally:
        records.close()
    if not found:
        raise DemoError("No comparison that was lost is recorded.")
    shown = subprocess.run(
        [COMMAND, "shadow", "show", found[0].case.id, f"--records={world.records}"],
        env={**os.environ, "COLUMNS": str(width)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if shown.returncode:
        raise DemoError(f"agentrollout shadow show failed: {shown.stderr.strip()}")
    return shown.stdout.strip()
