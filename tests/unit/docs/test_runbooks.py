"""The expressions of docs/runbooks.md ask for metrics that there are; tests/integration has Prometheus read them."""

from __future__ import annotations

import re

from tests.unit.docs.pages import ROOT, blocks, metrics

PAGE = ROOT / "docs" / "runbooks.md"
OURS = r"\b(?:agentrollout|envoy|leader_election|workqueue|controller_runtime)_\w+"


def test_every_alert_asks_for_metrics_that_are_documented() -> None:
    asked = {
        name for block in blocks(PAGE) if block.language == "promql" for name in re.findall(OURS, block.text)
    }
    assert asked
    assert asked <= metrics("Both processes", "The operator", "The shadow process", "The routers").keys()


def test_every_alert_has_an_expression_and_says_what_to_do_and_what_not() -> None:
    sections = re.split(r"^## (AgentRollout\w+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    for alert, text in zip(sections[::2], sections[1::2], strict=True):
        for part in ("```promql", "**Symptom.**", "**Users feel**", "**Look.**", "**Do.**", "**Do not**"):
            assert part in text, f"{alert} has no {part}"
