"""The harness of ``make bench-scale`` at its smallest: it must run, whatever the figures."""

from pathlib import Path

from rich.console import Console

from devkit.controlplane import ControlPlane
from tests.bench.crowd import crowd
from tests.bench.scale import Stand
from tests.integration.delivery_lab import DeliveryLab


async def test_rollouts_are_made_watched_and_changed_by_the_dozen(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab, crowd(lab) as rollouts:
        stand = Stand(lab, rollouts, 20, Console(quiet=True).status(""))
        await stand.fill()
        watched = await stand.watch("idle", 1, 0)
        assert watched.end.rss_mib > 0
        assert watched.end.tasks > 0
        assert watched.end.requests["PUT"] >= 20, "each status was written"
        times = await stand.change(5)
        assert len(times) == 5
        assert all(seconds > 0 for seconds in times)
