"""Structured logs: one event a line, with its rollout, artifact and correlation ID."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from controller.settings import LogFormat, LogLevel


def configure_logs(log_format: LogFormat, level: LogLevel) -> None:
    """Send all logs, those of libraries included, to stderr in one form."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Without locals: they could hold prompts, and make one line tens of kilobytes long.
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.RichTracebackFormatter(show_locals=False),
        )
    )
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    errors = [structlog.processors.ExceptionRenderer(tracebacks)] if log_format is LogFormat.JSON else []
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *errors, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # It tells of every request, which are two a second to a server of flags.
    logging.getLogger("httpx").setLevel(logging.WARNING if level is LogLevel.INFO else logging.NOTSET)
