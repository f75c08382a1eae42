"""``agentrollout shadow …``: the process that compares answers, and what people do with its records.

What the commands do is only imported once one of them is called, as in ``controller.cli_evidence``.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from controller.cli_values import fail, read_address, read_duration
from controller.core.shadow.comparison import Outcome
from controller.errors import ExitCode
from controller.logs import configure_logs
from controller.settings import Address, LogFormat, LogLevel, Redactor, ShadowSettings

shadow = typer.Typer(help="Compare the answers of a candidate in shadow with stable's.", no_args_is_help=True)


def _queue(text: str) -> str:
    # It may have a password in it, which is not to be repeated.
    try:
        url = urlsplit(text)
        understood = url.scheme in {"nats", "tls"} and bool(url.hostname) and url.port != 0
    except ValueError:
        understood = False
    if not understood:
        raise typer.BadParameter("not a URL of NATS: write nats://HOST:PORT, or tls://HOST:PORT")
    return text


def _name(text: str | None) -> str | None:
    if text is not None and "/" in text:
        namespace, _, name = text.partition("/")
        raise typer.BadParameter(f"the namespace is an option of its own: write {name} -n {namespace}")
    return text


RecordsUrl = Annotated[
    str,
    typer.Option(
        "--records",
        envvar="AGENTROLLOUT_SHADOW_RECORDS",
        metavar="URL",
        help="Where ends of comparisons are kept: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE. With a password "
        "in it, give it in the environment.",
    ),
]
Namespace = Annotated[str, typer.Option("-n", "--namespace", help="The rollout's namespace.")]

ComparisonId = Annotated[
    str, typer.Argument(metavar="ID", help="Of the comparison, or how it begins: 8 characters or more.")
]

_RECORDS = "sqlite:///agentrollout-shadow.db"


@shadow.command()
def serve(  # noqa: PLR0913, PLR0917  each is a flag of its own
    capture_address: Annotated[
        Address,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_CAPTURE_ADDRESS",
            parser=read_address,
            metavar="HOST:PORT",
            help="Where routers send what they capture: the operator's --shadow-address.",
        ),
    ] = Address("127.0.0.1", 18100),
    capture: Annotated[
        bool,
        typer.Option(
            help="--no-capture: only judge what another process captured. Of those that capture there is one."
        ),
    ] = True,
    http_address: Annotated[
        Address,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_HTTP_ADDRESS",
            parser=read_address,
            metavar="HOST:PORT",
            help="Health and metrics; Prometheus has to scrape /metrics.",
        ),
    ] = Address("127.0.0.1", 8082),
    judges: Annotated[
        Path | None,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_JUDGES",
            metavar="FILE",
            help="The judges that spec.shadow.judge names. Left out: one, `default`, of deterministic checks.",
        ),
    ] = None,
    records: RecordsUrl = _RECORDS,
    queue: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_QUEUE",
            parser=_queue,
            metavar="URL",
            help="NATS with JetStream between capture and judges: nats://HOST:PORT. Left out: a queue in memory, for one process.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_WORKERS",
            min=0,
            max=1024,
            help="Comparisons that are judged at once. 0: only capture.",
        ),
    ] = 8,
    replays: Annotated[
        int,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_REPLAYS",
            min=0,
            max=256,
            help="Runs that are driven again at once, of rollouts with recordedTools; those beyond are not. 0: this process asks "
            "no agent.",
        ),
    ] = 4,
    retention: Annotated[
        timedelta,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_RETENTION",
            parser=read_duration,
            metavar="DURATION",
            show_default="30d",
            help="How long records are kept.",
        ),
    ] = timedelta(days=30),
    redactor: Annotated[
        Redactor,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_REDACTOR",
            help="Who looks for personal data; presidio (needs the extra of that name) does so beside the built-in recognisers.",
        ),
    ] = Redactor.BUILT_IN,
    presidio_model: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_PRESIDIO_MODEL",
            metavar="NAME",
            help="An installed spaCy model, such as en_core_web_lg, that finds names of people and places. Left out: Presidio's "
            "patterns alone.",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(envvar="AGENTROLLOUT_LOG_FORMAT")] = LogFormat.JSON,
    log_level: Annotated[LogLevel, typer.Option(envvar="AGENTROLLOUT_LOG_LEVEL")] = LogLevel.INFO,
) -> None:
    """Receive what routers capture, pair and redact it, have it judged, and count how comparisons end.

    It needs no access to Kubernetes. One process receives; with --queue others may judge (--no-capture).

    Example: agentrollout shadow serve --judges judges.yaml --records sqlite:///comparisons.db
    """
    from controller.adapters.shadow_ports import RecordsError  # noqa: PLC0415  see above
    from controller.runtime.manager import PartEndedError  # noqa: PLC0415  see above
    from controller.shadow_wiring import run_shadow  # noqa: PLC0415  see above

    configure_logs(log_format, log_level)
    if queue is None and not (capture and workers):
        fail(
            "without --queue one process does it all: leave out --no-capture and --workers 0", ExitCode.USAGE
        )
    settings = ShadowSettings(
        capture_address=capture_address if capture else None,
        http_address=http_address,
        judges=judges,
        records=records,
        queue=queue,
        workers=workers,
        replays=replays,
        retention=retention,
        redactor=redactor,
        presidio_model=presidio_model,
    )
    try:
        asyncio.run(run_shadow(settings))
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)
    except (OSError, RecordsError, PartEndedError) as error:
        fail(str(error), ExitCode.FAILED)


@shadow.command()
def losses(
    name: Annotated[str, typer.Argument(callback=_name, help="The AgentRollout.")],
    namespace: Namespace = "default",
    records: RecordsUrl = _RECORDS,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many are shown.")] = 20,
    diverged: Annotated[
        bool, typer.Option("--diverged", help="List runs with recorded tools that diverged instead.")
    ] = False,
) -> None:
    """List the candidates' last losses against stable, newest first.

    Example: agentrollout shadow losses support-agent -n shop
    """
    from controller.cli_records import losses as run  # noqa: PLC0415  see above

    run(f"{namespace}/{name}", records, limit, diverged=diverged)


@shadow.command()
def show(
    comparison: ComparisonId,
    records: RecordsUrl = _RECORDS,
) -> None:
    """Show the question, both answers side by side, and what judge and people say.

    Example: agentrollout shadow show 7f3c09d1
    """
    from controller.cli_records import show as run  # noqa: PLC0415  see above

    run(comparison, records)


@shadow.command()
def label(
    comparison: ComparisonId,
    outcome: Annotated[Outcome, typer.Argument(help="What the candidate's answer is, beside stable's.")],
    by: Annotated[str, typer.Option(envvar="USER", help="Who says so.")] = "",
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    records: RecordsUrl = _RECORDS,
) -> None:
    """Say what you think of a comparison. What you said of it before no longer counts.

    Example: agentrollout shadow label 7f3c09d1 loss --by alice --reason "The total is wrong."
    """
    from controller.cli_records import label as run  # noqa: PLC0415  see above

    if not by.strip():
        raise typer.BadParameter("say who you are: --by NAME")
    run(comparison, outcome, by.strip(), reason.strip(), records)


@shadow.command()
def agreement(
    name: Annotated[
        str | None, typer.Argument(callback=_name, help="The AgentRollout. Left out: all.")
    ] = None,
    namespace: Namespace = "default",
    records: RecordsUrl = _RECORDS,
) -> None:
    """Show how far judges and people say the same, with Cohen's kappa.

    Example: agentrollout shadow agreement support-agent -n shop
    """
    from controller.cli_records import agreement as run  # noqa: PLC0415  see above

    run(f"{namespace}/{name}" if name else None, records)
