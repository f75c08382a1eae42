"""``agentrollout explain`` on a real rollout, while it is on its way and after it was taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typer.testing import CliRunner, Result

from controller.api.reasons import State, Verdict
from controller.cli import app
from devkit.controlplane import ControlPlane
from devkit.process import wait_until
from devkit.prometheus import Prometheus
from tests.integration.delivery_lab import DeliveryLab, manifest, stage


def explain(lab: DeliveryLab, *arguments: str) -> Result:
    """In a terminal of a hundred columns."""
    options = [f"--namespace={lab.namespace}", f"--kubeconfig={lab.control_plane.kubeconfig}"]
    return CliRunner().invoke(app, ["explain", *options, *arguments], env={"COLUMNS": "100"})


async def test_the_evidence_is_explained_while_it_grows_and_after_it_decided(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab:
        prometheus = f"--prometheus-url={lab.prometheus.url}"
        old, new = lab.agent("old"), lab.agent("new")
        await lab.apply(manifest(namespace, old.url))
        await lab.until(lambda r: r.status.state is State.STABLE)
        early = await asyncio.to_thread(explain, lab, "agent", prometheus)
        assert "there is nothing to explain" in early.stdout
        async with lab.users():
            await lab.apply(manifest(namespace, new.url, stages=[stage("10%", seconds=600), stage("100%")]))
            await lab.until(lambda r: r.status.verdict is Verdict.PASS)
            await asyncio.to_thread(_until_shown, lab.prometheus, Verdict.PASS)
            good = await asyncio.to_thread(explain, lab, "agent", prometheus)
            new.set_failures(0.5)
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
        assert good.exit_code == 0, good.stderr
        assert "in stage 10%" in good.stdout
        assert "no harm found" in good.stdout
        assert "Over time" in good.stdout
        await asyncio.to_thread(_until_shown, lab.prometheus, Verdict.FAIL)
        plot = tmp_path / "plot.svg"
        bad = await asyncio.to_thread(explain, lab, "agent", prometheus, f"--plot={plot}")
        assert bad.exit_code == 0, bad.stderr
        assert ended.status.last_rollback is not None
        assert "was taken back" in bad.stdout
        assert "Fail" in bad.stdout
        assert "a metric fails by itself at" in bad.stdout
        assert max(map(len, bad.stdout.splitlines())) <= 100
        assert plot.read_text().startswith("<?xml")
        without = await asyncio.to_thread(explain, lab, "agent")
        assert "say --prometheus-url" in without.stdout
        for arguments, words in (
            (("nobody",), "there is no AgentRollout"),
            (("agent", "--prometheus-url=http://127.0.0.1:1"), "there is no timeline"),
            (("agent", prometheus, "--plot=plot.pdf"), "ends with neither"),
        ):
            refused = await asyncio.to_thread(explain, lab, *arguments)
            assert refused.exit_code != 0
            assert words in " ".join(refused.stderr.replace("│", " ").split())


def _until_shown(prometheus: Prometheus, verdict: Verdict) -> None:
    wait_until(
        lambda: bool(prometheus.query(f'agentrollout_evidence_verdict{{verdict="{verdict}"}}')),
        timeout=20,
        what=f"a scrape of the verdict {verdict}",
    )
