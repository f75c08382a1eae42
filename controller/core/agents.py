"""Metrics from other series than the router's, mostly of agents: which count what. docs/metrics.md tells people the same."""

from __future__ import annotations

from dataclasses import dataclass

from controller.api.delivery import Analysis, Metric, MetricName
from controller.api.selectors import Convention, Selector, VersionForm, VersionLabel
from controller.api.shadow import SHADOW
from controller.api.status import VersionRef
from controller.core.catalogue import CounterTerm
from controller.core.shadow.comparison import COMPARISONS, JUDGED, Bin

EDGE = "le"
"""The label of a histogram's cumulative buckets."""

NAMESPACE_LABEL = "namespace"
"""By custom, where a scraped pod is. What pods elsewhere report is not about this rollout."""

TOOL_CALLS = "agent_tool_calls_total"
TASK_TOKENS = "agent_task_tokens"
TASK_COST = "agent_task_cost_usd"
CONVERSATIONS = "agentrollout_conversations_total"
"""Of the operator itself: trials that were judged, by ``rollout``, ``revision`` and ``outcome`` good or bad."""
FIT = "agentrollout_shadow_judge_fit"
"""Of ``agentrollout shadow``: 1 if ``judge``, made of ``artifact``, is fit to judge candidates; by ``rollout`` and ``revision``."""
MEASURED = "agentrollout_shadow_judge_accuracy"
"""What it reached on its labelled pairs, 0 to 1, by ``measure``: accuracy, consistency and injections."""
OTEL_TOOL_CALLS = "gen_ai_execute_tool_duration_seconds_count"


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """One metric as sums of counters that agents report.

    Attributes:
        name: Name in ``spec.analysis.metrics``.
        label: The label that names the version.
        form: What its value is.
        total: Sum that counts all events.
        bad: Sum that counts the bad ones; empty if they are those above an edge of a histogram.
        buckets: Metric of that histogram's cumulative buckets.
        starts_at_zero: Whether a series that appears beside others of its process began at 0 there and then.
        rollout: ``namespace/name``, where series say whose they are themselves; they need no namespace then.
        gauges: What is read beside them, and not counted.
    """

    name: str
    label: str
    form: VersionForm
    total: tuple[CounterTerm, ...]
    bad: tuple[CounterTerm, ...] = ()
    buckets: str = ""
    starts_at_zero: bool = True
    rollout: str = ""
    gauges: tuple[str, ...] = ()

    @property
    def independent(self) -> bool:
        """Whether its events are drawn one by one, and so do not come in bunches."""
        return self.name == MetricName.CONVERSATIONS

    @property
    def unit(self) -> str:
        """What is counted."""
        return "conversations" if self.name == MetricName.CONVERSATIONS else "events"

    @property
    def where(self) -> str:
        """What to look at if a series is missing."""
        if self.name == MetricName.CONVERSATIONS:
            return "is Prometheus scraping /metrics of every replica of the operator?"
        if self.name == SHADOW:
            return "is agentrollout shadow running, and is Prometheus scraping its /metrics?"
        return "does the agent report it, and is it scraped?"

    @property
    def terms(self) -> tuple[CounterTerm, ...]:
        """Every counter that an agent must report, once."""
        return tuple({(term.metric, term.labels): term for term in (*self.total, *self.bad)}.values())

    @property
    def names(self) -> frozenset[str]:
        """The names of all series."""
        counted = {term.metric for term in self.terms}
        return frozenset(counted | ({self.buckets} if self.buckets else set()) | set(self.gauges))

    @property
    def edges(self) -> frozenset[float]:
        """Edges of buckets that the terms themselves name."""
        return frozenset(float(value) for term in self.terms for name, value in term.labels if name == EDGE)

    @property
    def chooses_namespace(self) -> bool:
        """Whether it says itself where the series are that count; else it is the rollout's namespace."""
        return bool(self.rollout) or any(
            name == NAMESPACE_LABEL for term in self.terms for name, _ in term.labels
        )

    @property
    def scope(self) -> tuple[tuple[str, str], ...]:
        """Labels of all series that count."""
        return (("rollout", self.rollout),) if self.rollout else ()

    def value(self, version: VersionRef) -> str:
        """The label's value on a version's series."""
        return version.artifact_id if self.form is VersionForm.ARTIFACT_ID else version.revision


def definitions(analysis: Analysis, rollout: str) -> tuple[AgentDefinition, ...]:
    """The metrics of the rollout ``namespace/name`` that come from other series than the router's."""
    return tuple(definition_of(metric, rollout) for metric in analysis.metrics if not metric.is_from_router)


def definition_of(metric: Metric, rollout: str = "") -> AgentDefinition:
    """What a metric is made of that comes from other series than the router's.

    Args:
        metric: The metric.
        rollout: ``namespace/name``, which conversations need.
    """
    version = metric.version or VersionLabel()
    if metric.name == MetricName.CONVERSATIONS:
        total, bad = CounterTerm(CONVERSATIONS), CounterTerm(CONVERSATIONS, (("outcome", "bad"),))
        return AgentDefinition(
            metric.name, "revision", VersionForm.REVISION, (total,), (bad,), rollout=rollout
        )
    if metric.name == MetricName.TOOL_ERRORS and metric.convention is Convention.OPEN_TELEMETRY:
        # A call that went well has no error_type. Exporters that collect for others drop what is idle for a while and
        # bring it back with all its events, so that a series that appears says nothing about when it began.
        total, good = CounterTerm(OTEL_TOOL_CALLS), CounterTerm(OTEL_TOOL_CALLS, (("error_type", ""),), -1)
        return AgentDefinition(
            metric.name, version.label, version.form, (total,), (total, good), starts_at_zero=False
        )
    if metric.name == MetricName.TOOL_ERRORS:
        total, bad = CounterTerm(TOOL_CALLS), CounterTerm(TOOL_CALLS, (("outcome", "error"),))
        return AgentDefinition(metric.name, version.label, version.form, (total,), (bad,))
    if metric.name in {MetricName.TOKENS_PER_TASK, MetricName.COST}:
        histogram = TASK_COST if metric.name == MetricName.COST else TASK_TOKENS
        count = CounterTerm(f"{histogram}_count")
        return AgentDefinition(
            metric.name, version.label, version.form, (count,), buckets=f"{histogram}_bucket"
        )
    assert metric.total is not None  # noqa: S101  checked when it was read
    total = _term(metric.total)
    parts = (total, _term(metric.good, -1)) if metric.good else (_term(metric.bad),)
    return AgentDefinition(metric.name, version.label, version.form, (total,), parts)


def shadow_definition(rollout: str) -> AgentDefinition:
    """The comparisons of the rollout ``namespace/name``: those that were judged, of which losses are the bad ones."""
    return AgentDefinition(
        SHADOW,
        "revision",
        VersionForm.REVISION,
        total=tuple(CounterTerm(COMPARISONS, (("bin", end.value),)) for end in JUDGED),
        bad=(CounterTerm(COMPARISONS, (("bin", Bin.LOSS.value),)),),
        rollout=rollout,
        gauges=(FIT, MEASURED),
    )


def _term(selector: Selector | None, coefficient: int = 1) -> CounterTerm:
    assert selector is not None  # noqa: S101  checked when it was read
    return CounterTerm(selector.metric, tuple(sorted(selector.labels.items())), coefficient)
