"""The delivery lab with a control plane of its own, outside of pytest."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from devkit.controlplane import ControlPlane
from tests.integration.delivery_lab import DeliveryLab

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "bench"


@contextmanager
def control_plane(*, controllers: bool = False) -> Iterator[ControlPlane]:
    """A Kubernetes API with our CRDs and a namespace; garbage is only collected with ``controllers``."""
    with ControlPlane(controllers=controllers) as started:
        started.kubectl("apply", "--server-side", f"--filename={CRDS}")
        started.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        started.kubectl("create", "namespace", NAMESPACE)
        yield started


@asynccontextmanager
async def delivery_lab(*, scrape: float, controllers: bool = False, **how: Any) -> AsyncIterator[DeliveryLab]:
    """Everything, fresh, with further arguments of `DeliveryLab`; its files are gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="agentrollout-bench-") as directory,
        control_plane(controllers=controllers) as plane,
    ):
        lab = await asyncio.to_thread(DeliveryLab, plane, NAMESPACE, Path(directory), scrape=scrape, **how)
        async with lab:
            yield lab
