"""``agentrollout lint``: what people ask about rollouts.

What they do is only imported once one of them is called, as in `controller.cli_evidence`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def lint(
    files: Annotated[
        list[Path],
        typer.Option(
            "-f", "--filename", metavar="FILE", help="YAML or JSON; repeat it. - is standard input."
        ),
    ],
) -> None:
    """Say what is wrong with AgentRollouts in files, before they are applied and without a cluster.

    Unknown fields, values out of bounds and every rule of the CRDs, each with its line. Other objects in the files are
    left alone. Ends with 1 if there is something to mend. Needs the extra `lint` (`pip install 'agentrollout[lint]'`).

    Example: agentrollout lint -f rollout.yaml
    """
    from controller.cli_lint import run  # noqa: PLC0415  see above

    run(files)
