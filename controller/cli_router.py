"""``agentrollout router …``: what is done to Envoys rather than by them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from controller.adapters.envoy.bootstrap import bootstrap as envoy_bootstrap
from controller.adapters.envoy.doors import BreakGlass
from controller.adapters.envoy.draining import DrainError
from controller.adapters.envoy.draining import drain as drain_envoy
from controller.adapters.envoy.mutual_tls import TlsFiles, XdsTls, secrets
from controller.adapters.envoy.override import Answer, Credentials, CredentialsError, Overrides
from controller.cli_values import fail, read_address, read_duration
from controller.errors import ExitCode
from controller.settings import Address

router = typer.Typer(help="The Envoy routers.", no_args_is_help=True)

ADDRESS = "HOST:PORT"


def router_urls(urls: list[str]) -> list[str]:
    """URLs of routers' break-glass addresses."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
            raise typer.BadParameter(f"{url!r} is no router: write https://host:port")
    return urls


@router.command()
def bootstrap(  # noqa: PLR0913, PLR0917  each is a flag of its own
    node_id: Annotated[
        str, typer.Option(help="Name of this Envoy, unique among all that any replica serves.")
    ],
    xds_address: Annotated[
        list[Address],
        typer.Option(
            parser=read_address,
            metavar=ADDRESS,
            help="An operator's --xds-address; repeat it for each replica, or name a host with all their addresses.",
        ),
    ],
    admin_address: Annotated[
        Address,
        typer.Option(
            parser=read_address,
            metavar=ADDRESS,
            help="Envoy's admin interface. Leave it on loopback: whoever reaches it can stop Envoy.",
        ),
    ] = Address("127.0.0.1", 9901),
    metrics_address: Annotated[
        Address | None,
        typer.Option(
            parser=read_address,
            metavar=ADDRESS,
            help="Where Prometheus on another host scrapes /stats/prometheus and a kubelet asks /ready; nothing else is served.",
        ),
    ] = None,
    break_glass_address: Annotated[
        Address | None,
        typer.Option(
            parser=read_address,
            metavar=ADDRESS,
            help="Where `agentrollout router break-glass` reaches this Envoy, over mutual TLS.",
        ),
    ] = None,
    break_glass_cert: Annotated[
        str, typer.Option(help="Certificate chain of that address, a path on the router.")
    ] = "",
    break_glass_key: Annotated[str, typer.Option(help="The certificate's key, a path on the router.")] = "",
    break_glass_ca: Annotated[
        str,
        typer.Option(
            help="Who signs the certificates of those who may use it, a path on the router. Use a CA for this alone."
        ),
    ] = "",
    xds_cert: Annotated[
        str,
        typer.Option(
            help="Certificate chain that operators with --xds-tls-cert-file ask for, a path on the router."
        ),
    ] = "",
    xds_key: Annotated[str, typer.Option(help="The certificate's key, a path on the router.")] = "",
    xds_ca: Annotated[
        str, typer.Option(help="Who signed the operators' certificates, a path on the router.")
    ] = "",
    xds_secrets: Annotated[
        str,
        typer.Option(
            metavar="DIRECTORY",
            help="Where this writes, and the router finds, two files by which Envoy reads renewed certificates.",
        ),
    ] = "",
    xds_server_name: Annotated[
        str,
        typer.Option(
            help="The name in the operators' certificates. Left out: the host of the first --xds-address."
        ),
    ] = "",
) -> None:
    """Print the configuration to start an Envoy with.

    Example: agentrollout router bootstrap --node-id router-0 --xds-address 127.0.0.1:18000 > envoy.json
    """
    files = (break_glass_cert, break_glass_key, break_glass_ca)
    if any(files) != (break_glass_address is not None) or any(files) != all(files):
        fail(
            "--break-glass-address, --break-glass-cert, --break-glass-key and --break-glass-ca go together: "
            "give all four or none",
            ExitCode.USAGE,
        )
    xds_tls = _xds_tls(xds_cert, xds_key, xds_ca, xds_secrets, xds_server_name or xds_address[0].host)
    configuration = envoy_bootstrap(
        node_id,
        operators=[_endpoint(address) for address in xds_address],
        admin=_endpoint(admin_address),
        metrics=_endpoint(metrics_address) if metrics_address else None,
        break_glass=BreakGlass(_endpoint(break_glass_address), *files) if break_glass_address else None,
        xds_tls=xds_tls,
    )
    typer.echo(json.dumps(configuration, indent=2))


@router.command()
def break_glass(  # noqa: PLR0913, PLR0917  each is a flag of its own
    rollout: Annotated[str, typer.Argument(help="Name of the AgentRollout.")],
    routers: Annotated[
        list[str],
        typer.Option(
            "--router",
            metavar="https://HOST:PORT",
            callback=router_urls,
            help="A router's --break-glass-address; repeat it for every router.",
        ),
    ],
    cert: Annotated[str, typer.Option(help="Your certificate, PEM.")],
    key: Annotated[str, typer.Option(help="Its key, PEM.")],
    ca: Annotated[str, typer.Option(help="Who signed the routers' certificates, PEM.")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Namespace of the AgentRollout.")
    ] = "default",
    server_name: Annotated[
        str,
        typer.Option(
            help="The name in the routers' certificates, where it is not the host of --router (port-forward, pod address)."
        ),
    ] = "",
    release: Annotated[
        bool, typer.Option("--release", help="Take the override back: the split holds again.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            help="Wait for the API server, have the operators take the candidate back, then release the override."
        ),
    ] = True,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Left out: $KUBECONFIG, the pod's account, ~/.kube/config.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context within the kubeconfig.")] = None,
) -> None:
    """Send all users of a rollout to its stable version, with the operators and the API server dead.

    First it talks to the routers alone: from then on all users are on stable, whatever the operators do, until the
    override is released or the router restarts. Then it waits until the operators are back and have taken the candidate
    back themselves, and releases the override. It may be interrupted there, and run again, at any time.

    Example: agentrollout router break-glass support-agent -n shop --router https://10.0.0.7:9902 --cert me.crt --key me.key --ca ca.crt
    """
    try:
        overrides = Overrides(routers, Credentials(cert, key, ca, server_name))
    except CredentialsError as error:
        fail(str(error), ExitCode.USAGE)
    name = f"{namespace}/{rollout}"
    if release:
        _told(asyncio.run(overrides.release(name)), f"the split of {name} holds again")
        return
    _told(asyncio.run(overrides.set(name)), f"all users of {name} are sent to its stable version")
    if wait:
        asyncio.run(_agree(name, kubeconfig, context))
        _told(
            asyncio.run(overrides.release(name)), f"the split of {name} holds again, without that candidate"
        )


@router.command()
def drain(
    admin_address: Annotated[
        Address, typer.Option(parser=read_address, metavar=ADDRESS, help="The Envoy's admin interface.")
    ] = Address("127.0.0.1", 9901),
    timeout: Annotated[
        timedelta,
        typer.Option(
            parser=read_duration,
            metavar="DURATION",
            show_default="60s",
            help="How long answers under way may take.",
        ),
    ] = timedelta(seconds=60),
) -> None:
    """Let an Envoy finish what it has begun: run it before the Envoy is stopped, as a preStop hook does.

    From now on the Envoy is not ready, so that nobody sends new users, and asks those who are connected to come again
    elsewhere. It returns once no request is under way, or when the time is over.

    Example: agentrollout router drain --timeout 5m
    """
    try:
        outcome = asyncio.run(drain_envoy(str(admin_address), timeout.total_seconds()))
    except DrainError as error:
        fail(str(error), ExitCode.FAILED)
    if outcome:
        fail(f"{outcome} requests are still under way after {timeout.total_seconds():g} s", ExitCode.FAILED)
    typer.echo("no request is under way")


def _told(answers: tuple[Answer, ...], done: str) -> None:
    """One sentence for each router; one that did not take the order makes the command fail."""
    for answer in answers:
        typer.echo(f"{answer.router}: {answer.problem or done}", err=bool(answer.problem))
    failed = [answer for answer in answers if answer.problem]
    if failed:
        fail(
            f"{len(failed)} of {len(answers)} routers did not take the order; it may be given again at any time",
            ExitCode.FAILED,
        )


async def _agree(name: str, kubeconfig: str | None, context: str | None) -> None:
    # These take a second to import, which nobody should wait for whose users are still on a bad version.
    from controller.break_glass import FIELD_MANAGER, agree  # noqa: PLC0415
    from controller.reconcilers.observed import ROLLOUTS  # noqa: PLC0415
    from controller.runtime.client import ResourceClient  # noqa: PLC0415
    from controller.runtime.errors import ApiError  # noqa: PLC0415
    from controller.runtime.store import InvalidObjectError  # noqa: PLC0415
    from controller.runtime.transport import ConfigurationError, KubernetesTransport  # noqa: PLC0415

    stays = "the operators cannot be told, and the override stays until --release"
    try:
        transport = await KubernetesTransport.connect(kubeconfig=kubeconfig, context=context)
    except ConfigurationError as error:
        fail(f"{stays}: {error}", ExitCode.FAILED)
    try:
        await agree(ResourceClient(transport, ROLLOUTS, field_manager=FIELD_MANAGER), name, typer.echo)
    except (ApiError, InvalidObjectError) as error:
        fail(f"{stays}: {error}", ExitCode.FAILED)
    finally:
        await transport.close()


def _xds_tls(cert: str, key: str, ca: str, directory: str, server_name: str) -> XdsTls | None:
    """Write the secrets, if there are to be any."""
    files = (cert, key, ca, directory)
    if not any(files):
        return None
    if not all(files):
        fail(
            "--xds-cert, --xds-key, --xds-ca and --xds-secrets go together: give all four or none",
            ExitCode.USAGE,
        )
    tls = XdsTls(TlsFiles(cert, key, ca), server_name, directory)
    try:
        for name, content in secrets(tls).items():
            (Path(directory) / name).write_text(json.dumps(content, indent=2))
    except OSError as error:
        fail(f"--xds-secrets: {error}", ExitCode.USAGE)
    return tls


def _endpoint(address: Address) -> tuple[str, int]:
    return address.host, address.port
