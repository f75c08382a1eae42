"""Reading of what people write on the command line, and how a command that failed ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer

from controller.adapters.prometheus_http import HttpConfig, read_http_config
from controller.api.quantities import parse_duration
from controller.errors import ExitCode
from controller.settings import Address

T = TypeVar("T")


def _read(text: str | T, kind: type[T], parse: Callable[[str], T]) -> T:
    if isinstance(text, kind):  # typer sends defaults through the parser too
        return text
    try:
        return parse(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def read_address(text: str | Address) -> Address:
    """``host:port``."""
    return _read(text, Address, Address.parse)


def read_duration(text: str | timedelta) -> timedelta:
    """As in Prometheus, such as ``30d``."""
    return _read(text, timedelta, parse_duration)


def read_url(text: str) -> str:
    """A URL of HTTP or HTTPS."""
    if not text.startswith(("http://", "https://")):
        # It may have credentials in it, which are not to be repeated.
        raise typer.BadParameter("not a URL of HTTP: write http://host:port")
    return text


def read_urls(texts: list[str]) -> list[str]:
    """URLs of HTTP or HTTPS."""
    return [read_url(text) for text in texts]


def read_http_config_file(text: str | HttpConfig) -> HttpConfig:
    """The file of ``--prometheus-http-config-file``, and of others like it."""
    return _read(text, HttpConfig, lambda path: read_http_config(Path(path)))


PrometheusHttpFile = Annotated[
    HttpConfig | None,
    typer.Option(
        envvar="AGENTROLLOUT_PROMETHEUS_HTTP_CONFIG_FILE",
        parser=read_http_config_file,
        metavar="FILE",
        help="How to speak to Prometheus: what promtool takes as --http.config.file (authorization, basic_auth, "
        "tls_config, http_headers; secrets by file). Left out: plainly.",
    ),
]
"""The option of every command that asks a Prometheus."""


class Output(StrEnum):
    """How objects are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster a command speaks to, as kubectl is told.

    Attributes:
        kubeconfig: Path of a kubeconfig; None looks where kubectl does.
        context: Context within it; None takes its current one.
        namespace: None takes the context's, else ``default``.
    """

    kubeconfig: str | None
    context: str | None
    namespace: str | None


Name = Annotated[str, typer.Argument(help="The AgentRollout.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who read the history.")]
Kubeconfig = Annotated[
    str | None, typer.Option(metavar="FILE", help="Left out: $KUBECONFIG, the pod's account, ~/.kube/config.")
]
Context = Annotated[str | None, typer.Option(metavar="NAME", help="Context within the kubeconfig.")]
Namespace = Annotated[
    str | None,
    typer.Option("-n", "--namespace", metavar="NAME", help="Left out: the context's, else default."),
]
OutputOption = Annotated[
    Output, typer.Option("-o", "--output", help="wide shows more; json and yaml are for programs.")
]


def fail(message: str, code: ExitCode) -> NoReturn:
    """End the command with a sentence."""
    typer.echo(f"agentrollout: {message}", err=True)
    raise typer.Exit(code)
