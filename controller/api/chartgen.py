"""What ``crds/`` holds, carried into the Helm chart: ``python -m controller.api.chartgen [--check]``.

Helm packages only what lies in the chart's own folder, and upgrades CRDs only as templates.
"""

from __future__ import annotations

import sys
from pathlib import Path

from controller.api.generated import ROOT, publish

_CRDS = ROOT / "crds"
CHART_FOLDER = ROOT / "charts" / "agentrollout" / "files" / "crds"


def main(arguments: list[str], folder: Path = CHART_FOLDER, source: Path = _CRDS) -> int:
    """Write the chart's copies; with ``--check`` say which are not current and return 1."""
    wanted = {folder / path.name: path.read_text("utf-8") for path in sorted(source.glob("*.yaml"))}
    for left_over in set(folder.glob("*.yaml")) - wanted.keys():
        if "--check" in arguments:
            sys.stderr.write(f"no longer in {source.name}/: {left_over}; remove it\n")
            return 1
        left_over.unlink()
    return publish(wanted, arguments, target="crds")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
