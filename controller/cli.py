"""The ``agentrollout`` command."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated

import typer

from controller.adapters.envoy.mutual_tls import TlsFiles
from controller.adapters.prometheus_http import HttpConfig
from controller.cli_actions import abort, approve, pause, promote, resume, retry
from controller.cli_evidence import explain, judge, metrics, simulate
from controller.cli_rollouts import diff, get, history, lint, status
from controller.cli_router import router
from controller.cli_shadow import shadow
from controller.cli_switches import kill, release
from controller.cli_values import (
    PrometheusHttpFile,
    fail,
    read_address,
    read_http_config_file,
    read_url,
    read_urls,
)
from controller.core.references import SecretKey
from controller.errors import ExitCode
from controller.logs import configure_logs
from controller.reconcilers.grants import Grants
from controller.settings import (
    Address,
    LogFormat,
    LogLevel,
    OperatorSettings,
    default_identity,
    identity_problem,
    own_namespace,
    read_secret_key,
)

_AS_PLUGIN = Path(sys.argv[0]).name.startswith("kubectl-")
"""Whether this is `kubectl agentrollout`, for which kubectl's own completion speaks."""

app = typer.Typer(
    name="agentrollout",
    help="Progressive delivery for AI agents on Kubernetes.",
    no_args_is_help=True,
    add_completion=not _AS_PLUGIN,
    rich_markup_mode="markdown",  # lines of docstrings run on, whatever the width
    pretty_exceptions_enable=False,
)


def _grants(values: list[str] | None) -> list[str] | None:
    try:
        Grants.parse(values or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return values


def _identity(value: str | None) -> str | None:
    if value is not None and (problem := identity_problem(value)):
        raise typer.BadParameter(problem)
    return value


def _secret_key(text: str) -> SecretKey:
    try:
        return read_secret_key(Path(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.callback()
def _root() -> None:
    """Keep subcommands even while there are few."""


def version() -> None:
    """Print the version.

    Example: agentrollout version
    """
    typer.echo(package_version("agentrollout"))


def operator(  # noqa: PLR0913, PLR0917  each is a flag of its own
    prometheus_url: Annotated[
        list[str],
        typer.Option(
            envvar="AGENTROLLOUT_PROMETHEUS_URL",
            callback=read_urls,
            help="Prometheus that scrapes the routers; repeat it for others that scrape the same (in the environment: "
            "separated by spaces). One of them is asked until it fails.",
        ),
    ],
    prometheus_http_config_file: PrometheusHttpFile = None,
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
            parser=read_address,
            metavar="HOST:PORT",
            help="Where routers connect.",
        ),
    ] = Address("127.0.0.1", 18000),
    xds_tls_cert_file: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_XDS_TLS_CERT_FILE",
            help="Certificate chain that routers are shown where they connect. With its key and the CA below only routers "
            "with a certificate of that CA are served; renewed files are read. Left out: everyone is, in clear.",
        ),
    ] = None,
    xds_tls_key_file: Annotated[
        str | None, typer.Option(envvar="AGENTROLLOUT_XDS_TLS_KEY_FILE", help="The certificate's key.")
    ] = None,
    xds_tls_ca_file: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_XDS_TLS_CA_FILE",
            help="Who signed the certificates of routers. Use a CA for this alone.",
        ),
    ] = None,
    http_address: Annotated[
        Address,
        typer.Option(
            envvar="AGENTROLLOUT_HTTP_ADDRESS",
            parser=read_address,
            metavar="HOST:PORT",
            help="Health, metrics and artifacts.",
        ),
    ] = Address("127.0.0.1", 8081),
    router_address: Annotated[
        Address,
        typer.Option(
            envvar="AGENTROLLOUT_ROUTER_ADDRESS",
            parser=read_address,
            metavar="HOST:PORT",
            help="Where the routers accept user traffic.",
        ),
    ] = Address("0.0.0.0", 8080),  # noqa: S104  user traffic comes from everywhere
    router_tls_cert_file: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_ROUTER_TLS_CERT_FILE",
            help="Certificate chain that the routers show users, a path on each router. Left out: users come without TLS.",
        ),
    ] = None,
    router_tls_key_file: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_ROUTER_TLS_KEY_FILE", help="The certificate's key, a path on each router."
        ),
    ] = None,
    shadow_address: Annotated[
        Address | None,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_ADDRESS",
            parser=read_address,
            metavar="HOST:PORT",
            help="Where the routers find `agentrollout shadow`, the one process that compares the answers of a candidate "
            "with those of stable. Left out: nothing is mirrored, whatever rollouts ask for.",
        ),
    ] = None,
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
            metavar="[NAMESPACE=]HOST",
            callback=_grants,
            help="A host that code.url may name, in one namespace or in all; repeat it (in the environment: separated "
            "by spaces). None: URL backends are off.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="AGENTROLLOUT_ALLOWED_HOSTS",
            metavar="[NAMESPACE=]HOST",
            callback=_grants,
            help="A host, or all hosts of a domain as in `shop=*.shop.example.com`, that a namespace may serve; repeat it "
            "as above. None: every namespace may serve any host that no older rollout serves.",
        ),
    ] = None,
    secret_hmac_key_file: Annotated[
        SecretKey | None,
        typer.Option(
            envvar="AGENTROLLOUT_SECRET_HMAC_KEY_FILE",
            parser=_secret_key,
            metavar="FILE",
            help="A file of at least 32 random bytes, the same for all replicas: key for digests of referenced Secrets. "
            "None: references to Secrets are off.",
        ),
    ] = None,
    ofrep_url: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_OFREP_URL",
            parser=read_url,
            metavar="URL",
            help="Server of feature flags that speaks OFREP, for killSwitches with ofrep; it is asked twice a second.",
        ),
    ] = None,
    ofrep_http_config_file: Annotated[
        HttpConfig | None,
        typer.Option(
            envvar="AGENTROLLOUT_OFREP_HTTP_CONFIG_FILE",
            parser=read_http_config_file,
            metavar="FILE",
            help="How to speak to it, as in --prometheus-http-config-file. Left out: plainly.",
        ),
    ] = None,
    flagd_address: Annotated[
        Address | None,
        typer.Option(
            envvar="AGENTROLLOUT_FLAGD_ADDRESS",
            parser=read_address,
            metavar="HOST:PORT",
            help="The sync service of flagd (its port 8015), for killSwitches with flagd.",
        ),
    ] = None,
    flagd_ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="AGENTROLLOUT_FLAGD_CA_FILE",
            exists=True,
            dir_okay=False,
            help="Bundle that flagd's certificate is verified with. Left out: it is spoken to without TLS.",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(envvar="AGENTROLLOUT_LOG_FORMAT")] = LogFormat.JSON,
    log_level: Annotated[LogLevel, typer.Option(envvar="AGENTROLLOUT_LOG_LEVEL")] = LogLevel.INFO,
) -> None:
    """Watch AgentRollouts and deliver them.

    Example: agentrollout operator --prometheus-url http://127.0.0.1:9090 --allowed-url-host agents.internal
    """
    # These take seconds to import, which a person with another command in an emergency should not wait for.
    from controller.runtime.manager import PartEndedError  # noqa: PLC0415
    from controller.runtime.transport import ConfigurationError  # noqa: PLC0415
    from controller.wiring import run_operator  # noqa: PLC0415

    configure_logs(log_format, log_level)
    if bool(router_tls_cert_file) != bool(router_tls_key_file):
        fail(
            "--router-tls-cert-file and --router-tls-key-file go together: give both or none", ExitCode.USAGE
        )
    xds_tls_files = (xds_tls_cert_file, xds_tls_key_file, xds_tls_ca_file)
    xds_tls = TlsFiles(*(each or "" for each in xds_tls_files)) if all(xds_tls_files) else None
    if any(xds_tls_files) and xds_tls is None:
        fail(
            "--xds-tls-cert-file, --xds-tls-key-file and --xds-tls-ca-file go together: give all three or none",
            ExitCode.USAGE,
        )
    settings = OperatorSettings(
        kubeconfig=kubeconfig,
        context=context,
        prometheus_urls=tuple(prometheus_url),
        prometheus_http=prometheus_http_config_file or HttpConfig(),
        xds_address=xds_address,
        xds_tls=xds_tls,
        http_address=http_address,
        router_address=router_address,
        router_tls_cert_file=router_tls_cert_file,
        router_tls_key_file=router_tls_key_file,
        shadow_address=shadow_address,
        namespace=namespace or own_namespace(),
        identity=identity or default_identity(http_address),
        allowed_url_hosts=Grants.parse(allowed_url_host or ()),
        allowed_hosts=Grants.parse(allowed_host or ()),
        secret_key=secret_hmac_key_file,
        ofrep_url=ofrep_url,
        ofrep_http=ofrep_http_config_file or HttpConfig(),
        flagd_address=flagd_address,
        flagd_ca_file=flagd_ca_file,
    )
    try:
        asyncio.run(run_operator(settings))
    except ConfigurationError as error:
        fail(str(error), ExitCode.USAGE)
    except (OSError, PartEndedError) as error:
        fail(str(error), ExitCode.FAILED)


for panel, commands in {
    "What rollouts do": (get, status, history, diff, explain),
    "Hands on the wheel": (approve, promote, pause, resume, abort, retry, kill, release),
    "Before one is applied": (lint, simulate),
    "Processes and what they need": (operator, version),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for name, group in (("router", router), ("metrics", metrics), ("judge", judge), ("shadow", shadow)):
    app.add_typer(group, name=name, rich_help_panel="Processes and what they need")


def main() -> None:
    """Entry point of the console scripts: the command by itself, and as a plugin of kubectl."""
    app(prog_name="kubectl agentrollout" if _AS_PLUGIN else "agentrollout")
