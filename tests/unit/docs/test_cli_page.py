"""docs/cli.md says what every exit code means."""

from __future__ import annotations

import re

from controller.errors import ExitCode
from tests.unit.docs.pages import ROOT


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert re.findall(r"^\| (\d+) \| \S", page, re.MULTILINE) == [str(code.value) for code in ExitCode]
