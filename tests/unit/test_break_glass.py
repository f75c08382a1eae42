"""The half of break-glass that talks to the API server; what it does to routers is in the integration tests."""

from pathlib import Path

import pytest
import typer

from controller.cli_router import _agree
from controller.reconcilers.observed import ROLLOUTS
from tests.faulty_api import FaultyApi, Kind


async def test_a_rollout_that_cannot_be_read_leaves_the_override_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = Kind(ROLLOUTS.group, ROLLOUTS.version, ROLLOUTS.plural, ROLLOUTS.kind, has_status=True)
    malformed = {
        "apiVersion": ROLLOUTS.api_version,
        "kind": ROLLOUTS.kind,
        "metadata": {"namespace": "shop", "name": "agent", "generation": 1},
        "spec": {"agent": {"code": {"url": "http://v1"}}, "traffic": "everywhere"},
    }
    async with FaultyApi(tmp_path, kind) as server:
        server.storage.put((ROLLOUTS.group, ROLLOUTS.plural, "shop", "agent"), malformed)
        with pytest.raises(typer.Exit) as ended:
            await _agree("shop/agent", str(server.kubeconfig), None)
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err
    assert "the override stays until --release" in said
    assert "shop/agent cannot be read; mend it, and give the order again: spec.traffic: " in said
