"""``agentrollout explain``, ``simulate``, ``metrics …`` and ``judge …``: commands that look at evidence.

What they do is only imported once one of them is called: it takes longer than all the rest, and break-glass and the
operator, which share this program, have no use for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from controller.api.quantities import parse_percent
from controller.cli_values import Context, Kubeconfig, Name, Namespace, PrometheusHttpFile, Where, read_url

metrics = typer.Typer(help="What evidence is made of.", no_args_is_help=True)
judge = typer.Typer(help="Who compares answers in shadow.", no_args_is_help=True)


def _plot(path: Path | None) -> Path | None:
    if path is None:
        return None
    from controller.explanation.charts import FORMATS  # noqa: PLC0415  see above

    if path.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{path} ends with neither {' nor '.join(FORMATS)}")
    return path


def _faults(texts: list[str] | None) -> list[str] | None:
    from controller.simulation.scenario import Fault  # noqa: PLC0415  see above

    for text in texts or ():
        _checked(Fault.parse, text)
    return texts


def _traffic(text: str) -> str:
    from controller.simulation.scenario import parse_traffic  # noqa: PLC0415  see above

    _checked(parse_traffic, text)
    return text


def _share(text: str) -> str:
    _checked(parse_percent, text)
    return text


def _checked(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def explain(
    name: Name,
    namespace: Namespace = None,
    prometheus_url: Annotated[
        str | None,
        typer.Option(
            callback=lambda text: text and read_url(text),
            help="Prometheus that scrapes the operators (their --http-address, /metrics); without it there is no timeline.",
        ),
    ] = None,
    prometheus_http_config_file: PrometheusHttpFile = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            callback=_plot, help="Also draw the timeline to this file, .svg or .png (needs matplotlib)."
        ),
    ] = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show the evidence for and against a rollout's candidate: what each metric says, what is missing, and over time.

    Of a candidate that was taken back it shows the evidence that decided.

    Example: agentrollout explain support-agent -n shop --prometheus-url http://127.0.0.1:9090
    """
    from controller.cli_explain import run  # noqa: PLC0415  see above

    run(name, Where(kubeconfig, context, namespace), prometheus_url, prometheus_http_config_file, plot)


def simulate(
    file: Annotated[Path, typer.Option("-f", "--filename", help="The AgentRollout.")],
    traffic: Annotated[
        str, typer.Option(callback=_traffic, help="Requests of all users: 2000/min, 30/s or 500/h.")
    ],
    error_rate: Annotated[
        str, typer.Option(callback=_share, help="Share of the requests that fail on stable, such as 2%.")
    ] = "1%",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            callback=_faults,
            help="What is worse about the candidate: `errors*3@10m` has three times the errors from ten minutes after its "
            "first request on, `latency*2` twice every latency from the start. Each is simulated by itself.",
        ),
    ] = None,
    audience: Annotated[
        str, typer.Option(callback=_share, help="Share of the requests that come from the stages' audience.")
    ] = "5%",
    runs: Annotated[int, typer.Option(min=1, max=100_000, help="Deliveries of each kind.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same figures.")] = 1,
) -> None:
    """Deliver a rollout in virtual time: how long it takes, how often it errs, how fast it catches faults.

    Plan and statistics are the operator's own; users, router and metrics are random numbers.

    Example: agentrollout simulate -f rollout.yaml --traffic 2000/min --error-rate 2% --fault 'errors*3@10m'
    """
    from controller.cli_simulate import run  # noqa: PLC0415  see above

    run(file, traffic, error_rate, fault, audience, runs, seed)


@metrics.callback()
def _root() -> None:
    """Keep subcommands even while there is one."""


@metrics.command()
def check(
    file: Annotated[Path, typer.Option("-f", "--filename", help="The AgentRollout.")],
    prometheus_url: Annotated[
        str,
        typer.Option(
            callback=read_url,
            help="The Prometheus that scrapes routers and agents.",
        ),
    ] = "http://127.0.0.1:9090",
    prometheus_http_config_file: PrometheusHttpFile = None,
    namespace: Annotated[
        str | None,
        typer.Option("-n", "--namespace", help="Of the rollout. Left out: the file's, else default."),
    ] = None,
) -> None:
    """Look in a Prometheus for every series that a rollout's metrics read.

    Says what is missing, empty or mislabelled; ends with 1 if something is missing or mislabelled.

    Example: agentrollout metrics check -f rollout.yaml --prometheus-url http://127.0.0.1:9090
    """
    from controller.cli_metrics import run  # noqa: PLC0415  see above

    run(file, prometheus_url, prometheus_http_config_file, namespace)


@judge.callback()
def _judge_root() -> None:
    """Keep subcommands even while there is one."""


@judge.command("check")
def judge_check(
    judges: Annotated[
        Path | None,
        typer.Option(
            envvar="AGENTROLLOUT_SHADOW_JUDGES",
            metavar="FILE",
            help="The file that agentrollout shadow serve gets. Left out: the judge without a model.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--judge", help="One of them. Left out: all.")] = None,
) -> None:
    """Examine judges with the labelled set, as agentrollout shadow serve does before it believes them.

    A judge with models asks them twice a pair, within its budget. Ends with 1 if a judge is not fit.

    Example: agentrollout judge check --judges judges.yaml --judge default
    """
    from controller.cli_judge import run  # noqa: PLC0415  see above

    run(judges, name)
