"""``agentrollout simulate``: how a rollout would go, before it is applied."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from controller.api.guardrails import GuardrailName
from controller.api.quantities import PPM_PER_PERCENT, format_duration, format_percent, parse_percent
from controller.api.rollout import AgentRollout
from controller.cli_files import read_file, terminal
from controller.cli_values import fail
from controller.errors import ExitCode
from controller.simulation.delivery import PATIENCE, shortest
from controller.simulation.scenario import (
    MEDIAN_LATENCY_MS,
    Answers,
    Fault,
    Scenario,
    parse_traffic,
)
from controller.simulation.summary import Spread, Summary
from controller.simulation.summary import simulate as run_all


def run(
    file: Path,
    traffic: str,
    error_rate: str,
    fault: list[str] | None,
    audience: str,
    runs: int,
    seed: int,
) -> None:
    """See ``controller.cli_evidence.simulate``; every text can be parsed."""
    rollout = read_file(file)
    rollout, unsaid = _without_reports(rollout)
    if not rollout.spec.analysis.metrics:
        fail(f"{file}: {unsaid} cannot be simulated: add errors or latency", ExitCode.USAGE)
    usual = Answers(parse_percent(error_rate) / (100 * PPM_PER_PERCENT))
    share = parse_percent(audience) / (100 * PPM_PER_PERCENT)
    scenarios = [
        Scenario(parse_traffic(traffic), usual, share, fault=each)
        for each in (None, *(Fault.parse(text) for text in fault or ()))
    ]
    console = terminal()
    console.print(_premises(rollout, traffic, error_rate, audience))
    if unsaid:
        console.print(f"Left out, since it cannot be simulated: {unsaid}.")
    summaries = list(_run(rollout, scenarios, runs, seed))
    for table in (_outcomes(summaries), _stages(rollout, summaries[0])):
        console.print(table)
    for sentence in _sentences(rollout, summaries):
        console.print(sentence)


def _without_reports(rollout: AgentRollout) -> tuple[AgentRollout, str]:
    """The rollout without what the router does not count, and the names of that.

    Nothing here works as agents do, lets conversations last, or has answers that could be compared.
    """
    analysis = rollout.spec.analysis
    counted = [metric for metric in analysis.metrics if metric.is_from_router]
    limits = [guardrail for guardrail in analysis.guardrails if guardrail.name == GuardrailName.LATENCY]
    unsaid = [
        *(["shadow"] if rollout.spec.shadow else []),
        *(metric.name for metric in analysis.metrics if metric not in counted),
        *(f"the guardrail {guardrail.name}" for guardrail in analysis.guardrails if guardrail not in limits),
    ]
    analysis = analysis.model_copy(update={"metrics": counted, "guardrails": limits})
    spec = rollout.spec.model_copy(update={"analysis": analysis, "shadow": None})
    return rollout.model_copy(update={"spec": spec}), ", ".join(unsaid)


def _run(rollout: AgentRollout, scenarios: list[Scenario], runs: int, seed: int) -> Iterator[Summary]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for scenario in scenarios:
            task = progress.add_task(_name(scenario), total=runs)
            yield run_all(rollout, scenario, runs, seed, partial(progress.advance, task))


def _premises(rollout: AgentRollout, traffic: str, error_rate: str, audience: str) -> str:
    has_audience = any(stage.audience for stage in rollout.spec.stages)
    metrics = ", ".join(metric.name for metric in rollout.spec.analysis.metrics)
    return (
        f"{rollout.metadata.name}: {traffic} requests"
        + (f", {audience} of them from the audience" if has_audience else "")
        + f"; {error_rate} of them fail on stable, independently of each other; answers take "
        f"{MEDIAN_LATENCY_MS:.0f} ms in the median. Watched: {metrics}, every "
        f"{format_duration(rollout.spec.analysis.interval)}, falseRollbackRate "
        f"{format_percent(rollout.spec.analysis.false_rollback_rate)}."
    )


def _outcomes(summaries: list[Summary]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Deliveries", title_justify="left")
    table.add_column("candidate")
    for name in ("promoted", "taken back", "held", "promoted after", "caught after", "failed requests"):
        table.add_column(name, justify="right")
    for each in summaries:
        held = each.runs - each.promoted - each.rolled_back
        table.add_row(
            _name(each.scenario),
            *(f"{100 * count / each.runs:.3g} %" for count in (each.promoted, each.rolled_back, held)),
            _times(each.seconds_to_promote),
            _times(each.seconds_to_catch),
            _numbers(each.failed),
        )
    table.caption = (
        "Times and numbers: the median … what one in ten exceeds. Caught: from the fault to the rollback."
    )
    table.caption_justify = "left"
    return table


def _stages(rollout: AgentRollout, good: Summary) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Stages of the good candidate", title_justify="left")
    table.add_column("stage")
    for name in ("minDuration", "time in it", "minRequests", "requests"):
        table.add_column(name, justify="right")
    for stage, found in zip(rollout.spec.stages, good.stages, strict=False):
        table.add_row(
            found.title,
            format_duration(stage.min_duration),
            _times(found.seconds),
            str(stage.min_requests),
            _numbers(found.requests),
        )
    return table


def _sentences(rollout: AgentRollout, summaries: list[Summary]) -> Iterator[str]:
    good = summaries[0]
    yield (
        f"{good.rolled_back} of {good.runs} good candidates were taken back: with 95 % confidence at most "
        f"{100 * good.at_most:.2g} % are."
    )
    for each in summaries:
        if each.held:
            limit = timedelta(seconds=PATIENCE * shortest(rollout.spec.stages).total_seconds())
            yield f"{_name(each.scenario)}: held for more than {format_duration(limit)}, most often: {each.held}"
        if each.scenario.fault and each.promoted:
            yield (
                f"{_name(each.scenario)}: {each.promoted} of {each.runs} bad candidates got through. More traffic in "
                "the early stages, longer stages or a larger falseRollbackRate would catch more."
            )


def _name(scenario: Scenario) -> str:
    fault = scenario.fault
    if fault is None:
        return "good"
    return f"{fault.metric}*{fault.factor:g}" + (f"@{format_duration(fault.after)}" if fault.after else "")


def _times(spread: Spread | None) -> str:
    return "–" if spread is None else _both(_time(spread.p50), _time(spread.p90))


def _numbers(spread: Spread) -> str:
    return _both(f"{spread.p50:.0f}", f"{spread.p90:.0f}")


def _both(median: str, high: str) -> str:
    return median if median == high else f"{median} … {high}"


def _time(seconds: float) -> str:
    """To the minute from an hour on."""
    grain = 60 if seconds >= 3600 else 1
    return format_duration(timedelta(seconds=grain * round(seconds / grain)))
