"""What logs tell of an error: where it was raised, and nothing that was at hand there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from controller.settings import LogFormat

PROGRAM = """
import sys
import structlog
from controller.logs import configure_logs
from controller.settings import LogFormat, LogLevel

configure_logs(LogFormat(sys.argv[1]), LogLevel.INFO)

def judge(body):
    raise ZeroDivisionError

try:
    judge("".join(["ge", "heim"]))
except ZeroDivisionError:
    structlog.get_logger("x").exception("it_failed")
"""


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_traceback_has_no_locals(log_format: LogFormat) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format.value], check=True, capture_output=True, text=True
    )
    assert "it_failed" in ran.stderr
    assert "ZeroDivisionError" in ran.stderr
    assert "geheim" not in ran.stderr
