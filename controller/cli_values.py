"""Reading of what people write on the command line, and how a command that failed ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from controller.adapters.prometheus_http import HttpConfig, read_http_config
from controller.errors import ExitCode
from controller.settings import Address


def read_address(text: str | Address) -> Address:
    """``host:port``."""
    if isinstance(text, Address):  # typer sends defaults through the parser too
        return text
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def read_url(text: str) -> str:
    """A URL of HTTP or HTTPS."""
    if not text.startswith(("http://", "https://")):
        # It may have credentials in it, which are not to be repeated.
        raise typer.BadParameter("not a URL of HTTP: write http://host:port")
    return text


def read_urls(texts: list[str]) -> list[str]:
    """URLs of HTTP or HTTPS."""
    return [read_url(text) for text in texts]


def read_prometheus_http(text: str | HttpConfig) -> HttpConfig:
    """The file of ``--prometheus-http-config-file``."""
    if isinstance(text, HttpConfig):  # typer sends defaults through the parser too
        return text
    try:
        return read_http_config(Path(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


PrometheusHttpFile = Annotated[
    HttpConfig | None,
    typer.Option(
        envvar="AGENTROLLOUT_PROMETHEUS_HTTP_CONFIG_FILE",
        parser=read_prometheus_http,
        metavar="FILE",
        help="How to speak to Prometheus: what promtool takes as --http.config.file (authorization, basic_auth, "
        "tls_config, http_headers; secrets by file). Left out: plainly.",
    ),
]
"""The option of every command that asks a Prometheus."""


def fail(message: str, code: ExitCode) -> NoReturn:
    """End the command with a sentence."""
    typer.echo(f"agentrollout: {message}", err=True)
    raise typer.Exit(code)
