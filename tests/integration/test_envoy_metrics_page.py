"""What a real router shows is in docs/reference/metrics.md; tests/unit/docs holds the page against the bootstrap."""

from __future__ import annotations

import re

from tests.integration.envoy_lab import Lab, arms, backend, fetch, table
from tests.unit.docs.pages import metrics


async def test_every_metric_of_a_router_is_documented_with_its_type() -> None:
    async with arms() as (stable, _), Lab() as lab:
        await lab.start(table(backend("stable", stable.port)))
        await fetch(lab.user_port)
        page = await lab.metrics()
    shown = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE))
    assert "envoy_cluster_upstream_rq_time" in shown
    assert shown.items() <= {metric: kind for metric, (kind, _) in metrics("The routers").items()}.items()
