"""Decisions on what agents report, in virtual time."""

from __future__ import annotations

import pytest

from controller.api.reasons import ConditionType, Reason, State, Verdict
from controller.api.status import MetricStatus
from tests.talking import EDGES, Reported, TalkingRollout, talking
from tests.virtual import Behaviour

STAGES = [{"weight": w, "minDuration": "2m", "minRequests": 10} for w in ("20%", "50%", "100%")]


def said(world: TalkingRollout) -> str:
    condition = world.rollout.status.condition(ConditionType.PROGRESSING)
    assert condition is not None
    return condition.message


def metric(world: TalkingRollout, name: str) -> MetricStatus:
    return next(each for each in world.rollout.status.analysis if each.name == name)


def test_a_good_version_is_promoted_with_all_it_reports() -> None:
    world = talking("errors", "toolErrors", "tokensPerTask", stages=STAGES)
    world.want("http://v2")
    world.live(500)
    assert world.rollout.status.state is State.STABLE
    assert world.rollout.status.stable is not None
    assert world.rollout.status.last_rollback is None


@pytest.mark.parametrize(
    ("name", "bad"), [("toolErrors", Reported(tool_errors=0.3)), ("tokensPerTask", Reported(heavy=0.5))]
)
def test_a_version_that_reports_worse_is_taken_back_for_it(name: str, bad: Reported) -> None:
    world = talking("errors", "toolErrors", "tokensPerTask", stages=STAGES, reported={"v2": bad})
    world.want("http://v2")
    world.live(120)
    taken_back = world.rollout.status.last_rollback
    assert taken_back is not None
    assert (taken_back.reason, taken_back.metric) == (Reason.ANALYSIS_FAILED, name)
    assert "worse than stable: candidate " in taken_back.message


def test_every_event_of_a_stage_counts_once_though_pods_and_routers_are_scraped_at_different_instants() -> (
    None
):
    world = talking("errors", "toolErrors")
    world.want("http://v2")
    world.live(58)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    errors, tools = metric(world, "errors"), metric(world, "toolErrors")
    scrapes = [time for time, _ in next(iter(world.pod_samples.values()))]
    assert errors.candidate.total > 0
    assert scrapes
    # The pod's last scrape that the routers' clock does not reach yet is left for the next interval, and the first of
    # a pod that Prometheus did not know tells nothing.
    assert tools.baseline.total == pytest.approx(errors.baseline.total, rel=0.35)
    assert tools.candidate.total <= errors.candidate.total


def test_an_evaluation_without_a_new_scrape_of_the_agents_counts_nothing_twice() -> None:
    world = talking("errors", "toolErrors", stages=STAGES)
    world.want("http://v2")
    world.live(45)
    evaluate(world)
    before = metric(world, "toolErrors")
    assert before.candidate.total > 0
    world.deaf = True
    world.live(2)
    evaluate(world)
    assert metric(world, "toolErrors") == before


def evaluate(world: TalkingRollout) -> None:
    """An evaluation that is due now."""
    evidence = world.rollout.status.evidence
    assert evidence is not None
    due = evidence.model_copy(update={"evaluated_at": None})
    status = world.rollout.status.model_copy(update={"evidence": due})
    world.rollout = world.rollout.model_copy(update={"status": status})
    world.step()


def test_a_version_that_reports_nothing_is_held_and_the_missing_series_is_named() -> None:
    world = talking("errors", "toolErrors", reported={"v2": Reported(silent=True)})
    world.want("http://v2")
    world.live(600)
    status = world.rollout.status
    assert status.stage is not None
    assert (status.stage.index, status.verdict) == (0, Verdict.INSUFFICIENT)
    assert status.candidate is not None
    missing = f'agent_tool_calls_total{{artifact="{status.candidate.artifact_id}"}}'
    assert said(world).startswith(f"toolErrors: Prometheus has no {missing}")
    assert metric(world, "errors").verdict is Verdict.PASS


def test_silence_of_the_agent_is_no_lack_of_requests_so_the_deadline_passes() -> None:
    world = talking("errors", "toolErrors", reported={"v2": Reported(silent=True)})
    world.want("http://v2")
    world.live(4000)
    healthy = world.rollout.status.condition(ConditionType.HEALTHY)
    assert healthy is not None
    assert healthy.reason is Reason.PROGRESS_DEADLINE_EXCEEDED


def test_a_stable_that_reports_nothing_keeps_the_first_stage_from_beginning_where_edges_are_needed() -> None:
    world = talking("errors", "tokensPerTask", reported={"v1": Reported(silent=True)})
    world.want("http://v2")
    world.live(120)
    assert world.rollout.status.stage is None
    assert said(world).startswith(
        "the first stage waits: tokensPerTask: Prometheus has no agent_task_tokens_count{"
    )


def test_the_first_stage_waits_for_tasks_to_take_edges_from() -> None:
    world = talking("errors", "tokensPerTask", per_second=0.4)
    world.want("http://v2")
    world.live(20)
    assert world.rollout.status.stage is None
    assert "of 50 tasks to compare with" in said(world)
    world.live(300)
    assert world.rollout.status.stage is not None


def test_reports_that_cannot_be_read_are_an_error_of_theirs_and_the_routers_still_decide() -> None:
    world = talking("errors", "toolErrors", stages=STAGES)
    world.want("http://v2")
    world.live(60)
    evidence = metric(world, "toolErrors").evidence
    world.reports_problem = "Prometheus is away"
    world.live(60)
    assert metric(world, "toolErrors").verdict is Verdict.ERROR
    assert metric(world, "toolErrors").message == "Prometheus is away"
    assert metric(world, "toolErrors").evidence == evidence
    world.behaviour["v2"] = Behaviour(errors=1.0)
    world.live(60)
    assert world.rollout.status.last_rollback is not None
    assert world.rollout.status.last_rollback.metric == "errors"


def test_the_past_of_agents_that_cannot_be_read_is_blindness_before_the_first_stage() -> None:
    world = talking("errors", "tokensPerTask")
    world.reports_problem = "Prometheus is away"
    world.want("http://v2")
    world.live(30)
    assert world.rollout.status.state is State.BLIND
    assert said(world) == "the first stage waits: Prometheus is away"


def test_a_candidate_without_the_edges_of_stable_is_held() -> None:
    other = Reported(edges=tuple(edge + 1 for edge in EDGES))
    world = talking("errors", "tokensPerTask", stages=STAGES, reported={"v2": other})
    world.want("http://v2")
    world.live(300)
    assert world.rollout.status.candidate is not None
    assert metric(world, "tokensPerTask").verdict is Verdict.INSUFFICIENT
    assert "must have the edges that stable's has" in said(world)


def test_a_counter_that_is_no_number_is_an_error_of_its_metric() -> None:
    world = talking("errors", "toolErrors", stages=STAGES)
    world.want("http://v2")
    world.live(60)
    world.garbled = True
    world.live(15)
    assert metric(world, "toolErrors").verdict is Verdict.ERROR
    assert metric(world, "errors").verdict is Verdict.PASS


def test_straight_to_everyone_what_agents_report_is_compared_with_stable_s_past() -> None:
    stages = [{"weight": "100%", "minDuration": "5m", "minRequests": 10}]
    world = talking("errors", "toolErrors", stages=stages, reported={"v2": Reported(tool_errors=0.4)})
    world.want("http://v2")
    world.live(200)
    assert world.rollout.status.last_rollback is not None
    assert world.rollout.status.last_rollback.metric == "toolErrors"
    assert "the last comparison's baseline" in world.rollout.status.last_rollback.message


def test_straight_to_everyone_without_a_past_of_theirs_agents_are_held() -> None:
    stages = [{"weight": "100%", "minDuration": "1m", "minRequests": 10}]
    world = talking("errors", "toolErrors", stages=stages, reported={"v1": Reported(silent=True)})
    world.want("http://v2")
    world.live(200)
    assert world.rollout.status.candidate is not None
    assert said(world).startswith("toolErrors: stable had no events to compare with")


def test_with_an_audience_agents_are_watched_once() -> None:
    audience = {
        "audience": {"header": "x-user-group", "values": ["internal"]},
        "minDuration": "1m",
        "minRequests": 10,
    }
    world = talking("errors", "toolErrors", stages=[audience, *STAGES], internal=0.2)
    world.want("http://v2")
    world.live(45)
    assert [each.name for each in world.rollout.status.analysis] == ["errors (audience)", "toolErrors"]
    assert metric(world, "toolErrors").threshold == 300
    world.live(700)
    assert world.rollout.status.state is State.STABLE
