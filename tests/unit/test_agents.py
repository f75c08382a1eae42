"""What a metric in the spec is made of, and what is asked of the metric source for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from controller.api.delivery import Analysis, Metric
from controller.api.selectors import VersionForm
from controller.api.status import Evidence, MetricEvidence
from controller.core.agents import AgentDefinition, definition_of
from controller.core.catalogue import CounterTerm
from controller.reconcilers.questions import BASELINE_LOOKBACK, MAX_MARGIN, report_questions
from tests.talking import Reported, TalkingRollout, talking


def definition(**metric: Any) -> AgentDefinition:
    return definition_of(Metric.model_validate(metric))


def test_tool_errors_are_the_calls_with_an_error_as_outcome() -> None:
    assert definition(name="toolErrors") == AgentDefinition(
        "toolErrors",
        "artifact",
        VersionForm.ARTIFACT_ID,
        total=(CounterTerm("agent_tool_calls_total"),),
        bad=(CounterTerm("agent_tool_calls_total", (("outcome", "error"),)),),
    )


@pytest.mark.parametrize(
    ("name", "series"), [("tokensPerTask", "agent_task_tokens"), ("cost", "agent_task_cost_usd")]
)
def test_tokens_and_cost_are_histograms_of_tasks(name: str, series: str) -> None:
    found = definition(name=name, version={"label": "version", "form": "Revision"})
    assert (found.label, found.form, found.buckets) == ("version", VersionForm.REVISION, f"{series}_bucket")
    assert found.names == {f"{series}_bucket", f"{series}_count"}


def test_a_metric_of_one_s_own_may_count_what_is_good() -> None:
    found = definition(
        name="own",
        total={"metric": "calls_count", "labels": {"b": "2", "a": "1"}},
        good={"metric": "calls_bucket", "labels": {"le": "0.5"}},
    )
    total = CounterTerm("calls_count", (("a", "1"), ("b", "2")))
    assert found.total == (total,)
    assert found.bad == (total, CounterTerm("calls_bucket", (("le", "0.5"),), -1))
    assert found.edges == {0.5}


@pytest.mark.parametrize(
    "metric",
    [
        {"name": "own"},
        {"name": "own", "total": {"metric": "a"}},
        {"name": "own", "total": {"metric": "a"}, "bad": {"metric": "b"}, "good": {"metric": "c"}},
        {"name": "own", "total": {"metric": "a"}, "bad": {"metric": "b", "labels": {"le": "x"}}},
        {"name": "errors", "exposure": "1m"},
        {"name": "conversations", "version": {"label": "a"}},
    ],
)
def test_what_was_stored_before_the_crd_refused_it_cannot_be_read(metric: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Metric.model_validate(metric)


def test_conversations_alone_cannot_be_read_either() -> None:
    with pytest.raises(ValidationError, match="add errors beside them"):
        Analysis.model_validate({"metrics": [{"name": "conversations"}]})


def wanted(*metrics: dict[str, Any], **kwargs: Any) -> TalkingRollout:
    """A new version, with these metrics beside errors."""
    world = talking("errors", **kwargs)
    analysis = world.rollout.spec.analysis
    chosen = [*analysis.metrics, *(Metric.model_validate(metric) for metric in metrics)]
    world.change_spec(analysis=analysis.model_copy(update={"metrics": chosen}))
    world.want("http://v2")
    world.settle()
    return world


def test_all_metrics_with_one_label_are_read_at_once_from_where_the_slowest_was_counted() -> None:
    own: dict[str, Any] = {
        "name": "own",
        "total": {"metric": "a_count"},
        "good": {"metric": "a_bucket", "labels": {"le": "4"}},
    }
    revised: dict[str, Any] = {"name": "rev", "total": {"metric": "b"}, "bad": {"metric": "b"}}
    revised["version"] = {"label": "v", "form": "Revision"}
    world = wanted({"name": "toolErrors"}, own, revised)
    world.live(300)
    status = world.rollout.status
    counted = world.now - timedelta(seconds=100)
    evidence = Evidence(
        counted_until=world.now,
        metrics=[
            MetricEvidence(name="toolErrors", counted_until=counted),
            MetricEvidence(name="own", counted_until=world.now),
            MetricEvidence(name="rev", counted_until=world.now, edges=[0.1]),
        ],
    )
    snapshot = world.snapshot()
    rollout = snapshot.rollout.model_copy(update={"status": status.model_copy(update={"evidence": evidence})})
    by_artifact, by_revision = report_questions(replace(snapshot, rollout=rollout), world.now)
    assert status.stable is not None
    assert status.candidate is not None
    assert by_artifact.names == {"agent_tool_calls_total", "a_count", "a_bucket"}
    assert (by_artifact.label, by_artifact.edges) == ("artifact", frozenset({4.0}))
    assert by_artifact.values == {status.stable.artifact_id, status.candidate.artifact_id}
    assert by_artifact.window == timedelta(seconds=100) + MAX_MARGIN
    assert (by_revision.label, by_revision.edges) == ("v", frozenset({0.1}))
    assert by_revision.values == {status.stable.revision, status.candidate.revision}


def test_before_the_first_stage_whole_histograms_of_the_past_are_read() -> None:
    world = wanted({"name": "tokensPerTask"}, reported={"v1": Reported(silent=True)})
    assert world.rollout.status.stage is None
    (question,) = report_questions(world.snapshot(), world.now)
    assert (question.edges, question.window) == (None, BASELINE_LOOKBACK)


def test_routers_alone_need_no_further_question() -> None:
    world = wanted()
    assert report_questions(world.snapshot(), world.now) == ()
