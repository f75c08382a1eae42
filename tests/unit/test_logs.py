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

REQUESTS = """
import logging
import sys
from controller.logs import configure_logs
from controller.settings import LogFormat, LogLevel

configure_logs(LogFormat.JSON, LogLevel(sys.argv[1]))
logging.getLogger("httpx").info("HTTP Request: POST http://127.0.0.1/ofrep/v1/evaluate/flags 200 OK")
logging.getLogger("httpx").warning("refused")
"""


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_traceback_has_no_locals(log_format: LogFormat) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, log_format.value], check=True, capture_output=True, text=True
    )
    assert "it_failed" in ran.stderr
    assert "ZeroDivisionError" in ran.stderr
    assert "geheim" not in ran.stderr


@pytest.mark.parametrize(("level", "lines"), [("info", 1), ("debug", 2)])
def test_requests_that_went_well_are_only_told_when_everything_is(level: str, lines: int) -> None:
    ran = subprocess.run([sys.executable, "-c", REQUESTS, level], check=True, capture_output=True, text=True)
    assert len(ran.stderr.splitlines()) == lines
    assert "refused" in ran.stderr
