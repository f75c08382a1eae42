"""The ``agentrollout`` command."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version as package_version
from typing import Annotated

import typer

from controller.adapters.envoy.bootstrap import bootstrap as envoy_bootstrap
from controller.errors import ExitCode
from controller.logs import configure_logs
from controller.runtime.manager import PartEndedError
from controller.runtime.transport import ConfigurationError
from controller.settings import (
    Address,
    LogFormat,
    LogLevel,
    OperatorSettings,
    default_identity,
    identity_problem,
    own_namespace,
)
from controller.wiring import run_operator

app = typer.Typer(
    name="agentrollout",
    help="Progressive delivery for AI agents on Kubernetes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _address(text: str | Address) -> Address:
    if isinstance(text, Address):  # typer sends defaults through the parser too
        return text
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{text!r} is not a URL: write http://host:port")
    return text


def _hosts(values: list[str] | None) -> list[str] | None:
    for value in values or ():
        if not value or "/" in value or (value.count(":") == 1):
            bare = value.rpartition("://")[2].partition("/")[0].partition(":")[0]
            raise typer.BadParameter(f"{value!r} is not a host: write {bare or 'agents.internal'}")
    return values


def _identity(value: str | None) -> str | None:
    if value is not None and (problem := identity_problem(value)):
        raise typer.BadParameter(problem)
    return value


@app.callback()
def _root() -> None:
    """Keep subcommands even while there are few."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(package_version("agentrollout"))


@app.command()
def operator(  # noqa: PLR0913, PLR0917  each is a flag of its own
    prometheus_url: Annotated[
        str,
        typer.Option(
            envvar="AGENTROLLOUT_PROMETHEUS_URL", callback=_url, help="Prometheus that scrapes the routers."
        ),
    ],
    kubeconfig: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_KUBECONFIG", help="Left out: $KUBECONFIG, the pod's account, ~/.kube/config."
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option(envvar="AGENTROLLOUT_CONTEXT", help="Context within the kubeconfig.")
    ] = None,
    xds_address: Annotated[
        Address,
        typer.Option(
            envvar="AGENTROLLOUT_XDS_ADDRESS",
            parser=_address,
            metavar="HOST:PORT",
            help="Where routers connect.",
        ),
    ] = Address("127.0.0.1", 18000),
    http_address: Annotated[
        Address,
        typer.Option(
            envvar="AGENTROLLOUT_HTTP_ADDRESS",
            parser=_address,
            metavar="HOST:PORT",
            help="Health, metrics and artifacts.",
        ),
    ] = Address("127.0.0.1", 8081),
    router_address: Annotated[
        Address,
        typer.Option(
            envvar="AGENTROLLOUT_ROUTER_ADDRESS",
            parser=_address,
            metavar="HOST:PORT",
            help="Where the routers accept user traffic.",
        ),
    ] = Address("0.0.0.0", 8080),  # noqa: S104  user traffic comes from everywhere
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            envvar="AGENTROLLOUT_NAMESPACE",
            help="Where the replicas elect their leader. Left out: the pod's, else default.",
        ),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_IDENTITY",
            callback=_identity,
            help="Name of this replica, unlike that of any other that runs. Left out: the host's name and the http port.",
        ),
    ] = None,
    allowed_url_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="AGENTROLLOUT_ALLOWED_URL_HOSTS",
            callback=_hosts,
            help="A host that code.url may name; repeat it (in the environment: separated by spaces). None: URL backends are off.",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(envvar="AGENTROLLOUT_LOG_FORMAT")] = LogFormat.JSON,
    log_level: Annotated[LogLevel, typer.Option(envvar="AGENTROLLOUT_LOG_LEVEL")] = LogLevel.INFO,
) -> None:
    """Watch AgentRollouts and deliver them.

    Example: agentrollout operator --prometheus-url http://127.0.0.1:9090 --allowed-url-host agents.internal
    """
    configure_logs(log_format, log_level)
    settings = OperatorSettings(
        kubeconfig=kubeconfig,
        context=context,
        prometheus_url=prometheus_url,
        xds_address=xds_address,
        http_address=http_address,
        router_address=router_address,
        namespace=namespace or own_namespace(),
        identity=identity or default_identity(http_address),
        allowed_url_hosts=frozenset(allowed_url_host or ()),
    )
    try:
        asyncio.run(run_operator(settings))
    except ConfigurationError as error:
        _fail(str(error), ExitCode.USAGE)
    except (OSError, PartEndedError) as error:
        _fail(str(error), ExitCode.FAILED)


router = typer.Typer(help="The Envoy routers.", no_args_is_help=True)
app.add_typer(router, name="router")


@router.command()
def bootstrap(
    node_id: Annotated[str, typer.Option(help="Name of this Envoy, unique among those of one operator.")],
    xds_address: Annotated[
        Address, typer.Option(parser=_address, metavar="HOST:PORT", help="The operator's --xds-address.")
    ],
    admin_address: Annotated[
        Address,
        typer.Option(
            parser=_address,
            metavar="HOST:PORT",
            help="Envoy's admin interface, which Prometheus scrapes at /stats/prometheus.",
        ),
    ] = Address("127.0.0.1", 9901),
) -> None:
    """Print the configuration to start an Envoy with.

    Example: agentrollout router bootstrap --node-id router-0 --xds-address 127.0.0.1:18000 > envoy.json
    """
    configuration = envoy_bootstrap(
        node_id,
        xds_host=xds_address.host,
        xds_port=xds_address.port,
        admin_host=admin_address.host,
        admin_port=admin_address.port,
    )
    typer.echo(json.dumps(configuration, indent=2))


def _fail(message: str, code: ExitCode) -> None:
    typer.echo(f"agentrollout: {message}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the console script."""
    app()
