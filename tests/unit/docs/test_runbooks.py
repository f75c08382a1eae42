"""docs/runbooks.md has a section for each alert of the chart, with the alert's own expression."""

from __future__ import annotations

import re

import yaml

from tests.unit.docs.pages import ROOT

PAGE = ROOT / "docs" / "runbooks.md"
ALERTS = ROOT / "charts" / "agentrollout" / "files" / "alerts.yaml"


def sections() -> dict[str, str]:
    parts = re.split(r"^## (AgentRollout\w+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_its_section_with_its_expression() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]
    shown = {
        alert: re.findall(r"```promql\n(.*?)\n```", text, re.DOTALL) for alert, text in sections().items()
    }
    assert {alert: [" ".join(each.split()) for each in found] for alert, found in shown.items()} == {
        rule["alert"]: [" ".join(rule["expr"].split())] for rule in rules
    }


def test_every_section_says_what_to_do_and_what_not() -> None:
    for alert, text in sections().items():
        for part in ("**Symptom.**", "**Users feel**", "**Look.**", "**Do.**", "**Do not**"):
            assert part in text, f"{alert} has no {part}"
