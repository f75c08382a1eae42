"""The manifests of docs/quickstart.md are ones that a cluster takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit.controlplane import ControlPlane

FOLDER = Path(__file__).parents[2] / "examples" / "quickstart"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_api_server_takes_them_without_a_warning(path: Path, control_plane: ControlPlane) -> None:
    told = control_plane.kubectl("apply", "--dry-run=server", "--warnings-as-errors", "-f", str(path))
    assert "agentrollout.agentrollout.dev/support-agent" in told
