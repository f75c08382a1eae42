"""Does a Prometheus have what the metrics of a rollout read? What to ask it, and what the answers mean."""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.envoy.naming import cluster_name
from controller.adapters.ports import MetricSourceError
from controller.adapters.prometheus import Found, edge_texts
from controller.api.delivery import ROUTER_METRICS, MetricName
from controller.api.guardrails import ARTIFACT, REVISION, Guardrail, GuardrailName
from controller.api.rollout import AgentRollout
from controller.api.selectors import VersionForm
from controller.api.shadow import SHADOW
from controller.api.status import VersionRef
from controller.core.agents import EDGE, NAMESPACE_LABEL, AgentDefinition, shadow_definition
from controller.core.artifact import artifact_id, revision_name
from controller.core.daily_cost import cost_queries
from controller.core.guardrails import read_definitions
from controller.core.queries import about
from controller.shadow.funnel import PENDING

LOOKBACK = "5m"
"""What was scraped in this time is there."""

FEW_EDGES = 8
"""A histogram with fewer tells the P95 of stable too coarsely."""

NAMED = 3
"""So many values of a label are shown."""

_ARTIFACT_ID = re.compile(r"sha256:[0-9a-f]{64}")

_OF_OPERATOR = (
    "agentrollout_asyncio_tasks",
    "operators are scraped; they show it while a candidate is on its way",
)
_OF_SHADOW = (PENDING, "agentrollout shadow is scraped; it shows them once answers were compared")
"""A gauge that every process of ours always has, and what it means that it is there without a counter."""

Ask = Callable[[str], Awaitable[list[Found]]]
"""Answers a PromQL query with an instant vector; may raise MetricSourceError."""


class State(StrEnum):
    """What was found of one counter."""

    OK = "ok"
    """It is there, and so is its label."""
    EMPTY = "empty"
    """It is there or may still come, and has counted nothing."""
    MISSING = "missing"
    """It is not there, and must be."""
    MISLABELLED = "mislabelled"
    """It is there, but its labels do not say what they should."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One counter that is looked for.

    Attributes:
        metric: Name in ``spec.analysis.metrics``; empty for what all of them need.
        counts: What it counts.
        series: Its name in Prometheus.
        labels: Labels that a series must have, beside the one for the version.
    """

    metric: str
    counts: str
    series: str
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """As people write it."""
        inside = ", ".join(f'{name}="{value}"' for name, value in self.labels)
        return f"{self.series}{{{inside}}}" if inside else self.series


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one counter.

    Attributes:
        probe: What was looked for.
        state: In a word.
        value: A sample value: of this version if there is one, else of another, summed over its series.
        note: What to do about it, or what the value is; empty if there is nothing to say.
    """

    probe: Probe
    state: State
    value: float | None = None
    note: str = ""


async def check(rollout: AgentRollout, ask: Ask) -> AsyncIterator[Finding]:
    """Look for every counter that the rollout's metrics and guardrails read.

    Raises:
        MetricSourceError: If Prometheus does not answer.
    """
    analysis = rollout.spec.analysis
    built_in = (each.name for each in analysis.guardrails if each.query is None)
    read = dict.fromkeys([*(each.name for each in analysis.metrics), *built_in])
    counted = [name for name in read if name in ROUTER_METRICS]
    if counted:
        yield await _routers(ask)
    for name in counted:
        for probe in _router_probes(name):
            yield await _of_router(rollout, probe, ask)
    shadow = (shadow_definition(rollout.metadata.key),) if rollout.spec.shadow else ()
    for definition in (*read_definitions(analysis, rollout.metadata.key), *shadow):
        look = _of_operators if definition.rollout else _of_agents
        for probe in _probes(definition):
            yield await look(rollout, definition, probe, ask)
    for guardrail in analysis.guardrails:
        for counts, query in _queries(guardrail, rollout).items():
            yield await _of_query(rollout, Probe(guardrail.name, counts, query), ask)


def _queries(guardrail: Guardrail, rollout: AgentRollout) -> Mapping[str, str]:
    """What a guardrail asks, by what it gives."""
    if guardrail.name == GuardrailName.DAILY_COST:
        any_version = VersionRef(revision=REVISION, artifact_id=ARTIFACT)
        namespace = rollout.metadata.namespace
        return cost_queries(guardrail, rollout.spec.analysis.metrics, namespace, any_version)
    asked = {"query": guardrail.query, "samples": guardrail.samples}
    return {counts: query for counts, query in asked.items() if query}


async def _of_query(rollout: AgentRollout, probe: Probe, ask: Ask) -> Finding:
    """What a guardrail's query gives now, for the version in the file."""
    version = VersionRef(
        revision=_this(rollout, VersionForm.REVISION), artifact_id=_this(rollout, VersionForm.ARTIFACT_ID)
    )
    query = about(probe.series, version)
    if query != probe.series and not version.artifact_id:
        return Finding(probe, State.EMPTY, note="the version is not known before its prompts are read")
    try:
        found = await ask(query)
    except MetricSourceError as error:
        raise MetricSourceError(
            f"spec.analysis.guardrails, {probe.counts} of {probe.metric}: {error}"
        ) from error
    if len(found) > 1:
        note = f"gives {len(found)} values, and must give one: put it into sum() or max()"
        return Finding(probe, State.MISLABELLED, note=note)
    if not found or math.isnan(found[0].value):
        named = " for this version" if query != probe.series else ""
        return Finding(probe, State.EMPTY, note=f"gives {'no number' if found else 'nothing'}{named} yet")
    if math.isinf(found[0].value):
        return Finding(
            probe, State.MISLABELLED, note=f"gives {found[0].value}, which is no number to compare"
        )
    return Finding(probe, State.OK, found[0].value)


async def _routers(ask: Ask) -> Finding:
    probe = Probe("", "routers", CATALOGUE.liveness)
    found = await ask(f"count({_selector(probe.series)})")
    if not found:
        return Finding(probe, State.MISSING, note="are the routers scraped, at /stats/prometheus?")
    return Finding(probe, State.OK, found[0].value, "is the number of routers")


def _router_probes(metric: str) -> list[Probe]:
    """Envoy makes some counters with their first event, so only those are looked for that any traffic moves."""
    errors, latency = CATALOGUE.errors, CATALOGUE.latency
    if metric == MetricName.LATENCY:
        return [Probe(metric, "all", latency.count.metric)]
    bad = errors.bad[0]
    return [Probe(metric, "all", errors.total[0].metric), Probe(metric, "bad", bad.metric, bad.labels)]


async def _of_router(rollout: AgentRollout, probe: Probe, ask: Ask) -> Finding:
    owned = re.escape(cluster_name(rollout.metadata.key, rollout.metadata.name))
    served = _like(CATALOGUE.label, f"{owned}-[0-9a-f]{{10}}(~audience)?")
    found = await ask(f"sum({_selector(probe.series, served, _wanted(probe.labels))})")
    if not found:
        return Finding(probe, State.EMPTY, note="no version of this rollout has met any yet")
    return Finding(probe, State.OK if found[0].value else State.EMPTY, found[0].value)


async def _of_operators(
    _rollout: AgentRollout, definition: AgentDefinition, probe: Probe, ask: Ask
) -> Finding:
    found = await ask(f"sum({_selector(probe.series, _wanted(definition.scope), _wanted(probe.labels))})")
    if found:
        return Finding(probe, State.OK if found[0].value else State.EMPTY, found[0].value)
    always, there = _OF_SHADOW if definition.name == SHADOW else _OF_OPERATOR
    if not await ask(f"count({_selector(always)})"):
        return Finding(probe, State.MISSING, note=definition.where)
    return Finding(probe, State.EMPTY, note=there)


async def _of_agents(rollout: AgentRollout, definition: AgentDefinition, probe: Probe, ask: Ask) -> Finding:
    label, own = definition.label, "" if definition.chooses_namespace else _own(rollout)
    edge = _wanted(each for each in probe.labels if each[0] == EDGE)
    versions = await ask(f"count by ({label}, {NAMESPACE_LABEL}) ({_selector(probe.series, edge)})")
    if edge and not versions:
        return await _without_edge(definition, probe, ask)
    if problem := _problem(rollout, definition, probe, versions):
        return problem
    told = f'{label}!=""'
    found = await ask(f"sum by ({label}) ({_selector(probe.series, own, told, _wanted(probe.labels))})")
    if not found:
        return Finding(probe, State.EMPTY, note=await _seen(probe, own, ask))
    return await _sampled(rollout, definition, probe, found, ask)


async def _without_edge(definition: AgentDefinition, probe: Probe, ask: Ask) -> Finding:
    edges = {
        each.labels.get(EDGE, "") for each in await ask(f"count by ({EDGE}) ({_selector(probe.series)})")
    }
    if not edges:
        return Finding(probe, State.MISSING, note=definition.where)
    ordered = sorted(edges - {"", "+Inf"}, key=float)
    return Finding(probe, State.MISLABELLED, note=f"has no such edge, but {', '.join(ordered)}")


def _probes(definition: AgentDefinition) -> Iterator[Probe]:
    for term in definition.total:
        yield Probe(definition.name, "all", term.metric, term.labels)
    for term in definition.bad:
        if term not in definition.total:
            yield Probe(
                definition.name,
                "bad" if term.coefficient > 0 else "good",
                term.metric,
                term.labels,
            )
    if definition.buckets:
        yield Probe(definition.name, "edges", definition.buckets, ((EDGE, "+Inf"),))


def _problem(
    rollout: AgentRollout,
    definition: AgentDefinition,
    probe: Probe,
    versions: list[Found],
) -> Finding | None:
    """Why the counter cannot be read at all."""
    if not versions:
        return Finding(probe, State.MISSING, note=definition.where)
    counted = {"", rollout.metadata.namespace}
    here = [
        each
        for each in versions
        if definition.chooses_namespace or each.labels.get(NAMESPACE_LABEL, "") in counted
    ]
    if not here:
        others = {each.labels[NAMESPACE_LABEL] for each in versions}
        return Finding(
            probe,
            State.MISLABELLED,
            note=f"is there with {NAMESPACE_LABEL} {_some(others)}, and none with {rollout.metadata.namespace}",
        )
    values = {each.labels.get(definition.label, "") for each in here} - {""}
    if not values:
        return Finding(
            probe, State.MISLABELLED, note=f"lacks the label {definition.label}, which names the version"
        )
    if not any(_is_version(rollout, definition.form, value) for value in values):
        form = "an artifact ID" if definition.form is VersionForm.ARTIFACT_ID else "an AgentRevision"
        return Finding(
            probe,
            State.MISLABELLED,
            note=f"has a label {definition.label} that is not {form}: {_some(values)}",
        )
    return None


def _is_version(rollout: AgentRollout, form: VersionForm, value: str) -> bool:
    if form is VersionForm.ARTIFACT_ID:
        return _ARTIFACT_ID.fullmatch(value) is not None
    return re.fullmatch(re.escape(rollout.metadata.name) + "-[0-9a-f]{10}", value) is not None


async def _sampled(
    rollout: AgentRollout, definition: AgentDefinition, probe: Probe, found: list[Found], ask: Ask
) -> Finding:
    by_version = {each.labels.get(definition.label, ""): each.value for each in found}
    this = _this(rollout, definition.form)
    value = by_version.get(this, max(by_version.values()))
    notes = []
    if this and this not in by_version:
        notes.append(f"this version has none yet; the value is of one of {len(by_version)} others")
    if probe.counts == "edges":
        edges = len(await ask(f"count by ({EDGE}) ({_selector(probe.series)})")) - 1
        if edges < FEW_EDGES:
            notes.append(f"has only {edges} edges, which tells a P95 too coarsely: take steps of 1.5")
    return Finding(probe, State.OK if value else State.EMPTY, value, "; ".join(notes))


def _this(rollout: AgentRollout, form: VersionForm) -> str:
    """The version in the file; not known where its prompts are references."""
    if rollout.spec.agent.prompts_from:
        return ""
    artifact = artifact_id(rollout.spec.agent)
    return artifact if form is VersionForm.ARTIFACT_ID else revision_name(rollout.metadata.name, artifact)


async def _seen(probe: Probe, own: str, ask: Ask) -> str:
    """Which values the labels have instead."""
    seen = []
    for name, _ in probe.labels:
        values = {
            each.labels.get(name, "")
            for each in await ask(f"count by ({name}) ({_selector(probe.series, own)})")
        }
        seen.append(f"{name} has been {_some(values)} so far")
    return "; ".join(seen)


def _some(values: Iterable[str]) -> str:
    shown = [f'"{value}"' for value in sorted(values)]
    more = f" and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
    return ", ".join(shown[:NAMED]) + more


def _own(rollout: AgentRollout) -> str:
    return _like(NAMESPACE_LABEL, f"|{re.escape(rollout.metadata.namespace)}")


def _selector(series: str, *matchers: str) -> str:
    """PromQL for what was scraped lately."""
    return f"last_over_time({{{', '.join((_is('__name__', series), *filter(None, matchers)))}}}[{LOOKBACK}])"


def _wanted(labels: Iterable[tuple[str, str]]) -> str:
    """Matchers for the labels of a definition; an edge may be written in several ways."""
    return ", ".join(
        _like(name, "|".join(map(re.escape, edge_texts(float(value)))))
        if name == EDGE and value != "+Inf"
        else _is(name, value)
        for name, value in labels
    )


def _is(name: str, value: str) -> str:
    return f"{name}={json.dumps(value)}"


def _like(name: str, pattern: str) -> str:
    return f"{name}=~{json.dumps(pattern)}"
