"""A version whose conversations fail as a whole, through router, operator and Prometheus."""

from __future__ import annotations

import asyncio
import re
import zlib
from pathlib import Path
from typing import Any

from controller.api.reasons import Reason, State, Verdict
from devkit.controlplane import ControlPlane
from devkit.process import LOOPBACK
from tests.integration.delivery_lab import DeliveryLab, manifest, stage
from tests.integration.envoy_lab import Agent

ANALYSIS = {
    "interval": "1s",
    # So much that requests alone would have to fail for hours.
    "clustering": 1000,
    "metrics": [{"name": "errors"}, {"name": "conversations", "exposure": "1s"}],
}


class Forgetful(Agent):
    """Fails every request of a third of its conversations, and no other."""

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> bool:
        session = re.search(rb"x-session-id: (\S+)", head)
        assert session
        failed = zlib.crc32(session[1]) % 3 == 0
        return await super()._answer(b"GET /status/500 " if failed else b"GET /status/200 ", writer)


async def test_a_version_whose_conversations_fail_as_a_whole_is_taken_back_for_them(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with DeliveryLab(control_plane, namespace, tmp_path) as lab, Forgetful("new") as new:
        old = lab.agent("old")
        spec: dict[str, Any] = {
            "analysis": ANALYSIS,
            "stages": [stage("50%", seconds=2, requests=20), stage("100%")],
        }
        await lab.apply(manifest(namespace, old.url, **spec))
        await lab.until(lambda r: r.status.state is State.STABLE)
        async with lab.users():
            await lab.apply(manifest(namespace, f"http://{LOOPBACK}:{new.port}", **spec))
            held = await lab.until(lambda r: any(m.name == "conversations" for m in r.status.analysis))
            ended = await lab.until(lambda r: r.status.state is State.ROLLED_BACK)
        found = next(m for m in held.status.analysis if m.name == "conversations")
        assert found.verdict is Verdict.INSUFFICIENT
        taken_back = ended.status.last_rollback
        assert taken_back is not None
        assert (taken_back.reason, taken_back.metric) == (Reason.ANALYSIS_FAILED, "conversations")
        counts = next(m for m in ended.status.analysis if m.name == "conversations")
        assert counts.baseline.bad == 0
        assert 0 < counts.candidate.bad < counts.candidate.total
