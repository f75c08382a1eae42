"""``agentrollout kill`` and ``release``: for when it has to be quick.

What they do is only imported once one of them is called, as in `controller.cli_evidence`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli_router import break_glass, router_urls
from controller.cli_values import Context, Kubeconfig, Name, Namespace, Where, Why, fail
from controller.errors import ExitCode

BreakGlass = Annotated[
    bool,
    typer.Option(
        "--break-glass",
        help="Tell the routers themselves, with operators and API server dead: as `agentrollout router break-glass`, whose "
        "--router, --cert, --key, --ca and --server-name it needs, and -n.",
    ),
]
Routers = Annotated[
    list[str] | None,
    typer.Option(
        "--router",
        metavar="https://HOST:PORT",
        callback=lambda urls: router_urls(urls or []),
        help="With --break-glass.",
    ),
]
Cert = Annotated[str, typer.Option(metavar="FILE", help="With --break-glass.")]
Key = Annotated[str, typer.Option(metavar="FILE", help="With --break-glass.")]
Ca = Annotated[str, typer.Option(metavar="FILE", help="With --break-glass.")]
ServerName = Annotated[str, typer.Option(metavar="NAME", help="With --break-glass.")]


def kill(  # noqa: PLR0913, PLR0917  each is a flag of its own
    name: Name,
    namespace: Namespace = None,
    break_the_glass: BreakGlass = False,
    routers: Routers = None,
    cert: Cert = "",
    key: Key = "",
    ca: Ca = "",
    server_name: ServerName = "",
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Take the candidate from everybody within a second, and let no other one start, until `agentrollout release`.

    It turns on a key of the ConfigMap `agentrollout-kill`, which every replica of the operator watches.

    Example: agentrollout kill support-agent -n shop
    """
    if break_the_glass:
        _break_glass(
            name, namespace, routers, (cert, key, ca, server_name), context, kubeconfig, release=False
        )
        return
    from controller.cli_kill import kill as run  # noqa: PLC0415  see above

    run(name, Where(kubeconfig, context, namespace))


def release(  # noqa: PLR0913, PLR0917  each is a flag of its own
    name: Name,
    reason: Why = "",
    namespace: Namespace = None,
    break_the_glass: BreakGlass = False,
    routers: Routers = None,
    cert: Cert = "",
    key: Key = "",
    ca: Ca = "",
    server_name: ServerName = "",
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Turn off what `agentrollout kill` turned on, and resume: the version starts anew from its first stage.

    Example: agentrollout release support-agent -n shop --reason "The provider is back."
    """
    if break_the_glass:
        _break_glass(
            name, namespace, routers, (cert, key, ca, server_name), context, kubeconfig, release=True
        )
        return
    if not reason:
        raise typer.BadParameter("say why, for those who read the history: --reason TEXT")
    from controller.cli_kill import release as run  # noqa: PLC0415  see above

    run(name, reason, Where(kubeconfig, context, namespace))


def _break_glass(
    name: str,
    namespace: str | None,
    routers: list[str] | None,
    credentials: tuple[str, str, str, str],
    context: str | None,
    kubeconfig: str | None,
    *,
    release: bool,
) -> None:
    cert, key, ca, server_name = credentials
    if not (namespace and routers and cert and key and ca):
        fail("--break-glass needs -n, --router, --cert, --key and --ca: nothing is looked up", ExitCode.USAGE)
    break_glass(
        name,
        routers,
        cert,
        key,
        ca,
        namespace=namespace,
        server_name=server_name,
        release=release,
        kubeconfig=kubeconfig,
        context=context,
    )
