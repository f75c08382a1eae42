"""``agentrollout metrics check`` looks for comparisons where a rollout has a shadow."""

from __future__ import annotations

import pytest

from controller.adapters.prometheus import Found
from controller.metric_check import State, check
from tests.virtual import rollout_of


@pytest.mark.parametrize(
    ("there", "state", "note"),
    [
        ({"comparisons": 7.0}, State.OK, ""),
        ({"comparisons": 0.0}, State.EMPTY, ""),
        ({"pending": 1.0}, State.EMPTY, "it shows them once answers were compared"),
        ({}, State.MISSING, "is agentrollout shadow running, and is Prometheus scraping its /metrics?"),
    ],
)
async def test_each_verdict_is_looked_for(there: dict[str, float], state: State, note: str) -> None:
    async def ask(query: str) -> list[Found]:
        return [Found({}, value) for name, value in there.items() if f"agentrollout_shadow_{name}" in query]

    found = [each async for each in check(rollout_of(shadow={}), ask) if each.probe.metric == "shadow"]
    assert [each.probe.text for each in found] == [
        f'agentrollout_shadow_comparisons_total{{bin="{end}"}}' for end in ("win", "tie", "loss")
    ]
    assert {each.state for each in found} == {state}
    assert all(note in each.note for each in found)
