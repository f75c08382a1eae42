"""Decisions on conversations as trials, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.api.reasons import Reason, State, Verdict
from controller.api.status import MetricStatus
from tests.talking import TalkingRollout
from tests.virtual import rollout_of

STAGES = [{"weight": w, "minDuration": "2m", "minRequests": 20} for w in ("20%", "50%", "100%")]


@dataclass
class Conversations(TalkingRollout):
    """Every request is a conversation; the operator tells of them, from its own namespace."""

    failing: float = 0.02
    told: bool = True

    def count(self, revision: str, requests: int, *, audience: bool = False) -> None:
        super().count(revision, requests, audience=audience)
        if audience or not self.told:
            return
        bad = self._binomial(
            requests, self.failing if self.revisions[revision].backend.host == "v2" else 0.02
        )
        whose = {"job": "operator", "instance": "operator-0", "namespace": "system", "revision": revision}
        for key, count in (("shop/agent", (bad, requests - bad)), ("other/agent", (requests, 0))):
            for outcome, number in zip(("bad", "good"), count, strict=True):
                self._report(
                    "agentrollout_conversations_total", number, {**whose, "rollout": key, "outcome": outcome}
                )


def delivering(*, stages: list[dict[str, Any]] = STAGES, **given: Any) -> Conversations:
    """A world on its way to a second version; the clustering that users fear must not weigh on conversations."""
    metrics = [{"name": "errors"}, {"name": "conversations"}]
    analysis = {"interval": "15s", "clustering": 1000, "metrics": metrics}
    world = Conversations(rollout_of(stages=stages, analysis=analysis), **given)
    world.settle()
    world.live(60)
    world.want("http://v2")
    return world


def metric(world: Conversations) -> MetricStatus | None:
    return next((each for each in world.rollout.status.analysis if each.name == "conversations"), None)


def test_a_version_whose_conversations_go_well_is_promoted() -> None:
    world = delivering()
    world.live(600)
    assert world.rollout.status.state is State.STABLE
    assert world.rollout.status.last_rollback is None


def test_a_version_whose_conversations_fail_is_taken_back_for_it_whatever_the_clustering() -> None:
    world = delivering(failing=0.3)
    world.live(200)
    taken_back = world.rollout.status.last_rollback
    assert taken_back is not None
    assert (taken_back.reason, taken_back.metric) == (Reason.ANALYSIS_FAILED, "conversations")


def test_without_the_operators_series_the_weight_is_held_and_the_message_says_what_to_scrape() -> None:
    world = delivering(told=False)
    world.live(400)
    found = metric(world)
    assert found is not None
    assert found.verdict is Verdict.INSUFFICIENT
    assert (
        'Prometheus has no agentrollout_conversations_total{rollout="shop/agent", revision=' in found.message
    )
    assert "is Prometheus scraping /metrics of every replica of the operator?" in found.message
    assert world.rollout.status.weight == 200_000


def test_conversations_are_what_is_counted() -> None:
    world = delivering(stages=[{**STAGES[0], "minRequests": 1000}, STAGES[2]])
    world.live(20)
    found = metric(world)
    assert found is not None
    assert "of 1000 conversations counted" in found.message


def test_an_audience_is_not_asked_for_conversations_and_a_later_stage_is() -> None:
    audience = {
        "audience": {"header": "x-group", "values": ["internal"]},
        "minDuration": "1m",
        "minRequests": 10,
    }
    general = {"weight": "20%", "minDuration": "2m", "minRequests": 20}
    again = {**audience, "audience": {"header": "x-group", "values": ["beta"]}, "minRequests": 1}
    world = delivering(
        stages=[audience, general, again, {"weight": "100%", "minDuration": "1m", "minRequests": 20}],
        internal=0.2,
    )
    world.live(45)
    assert world.rollout.status.stage is not None
    assert world.rollout.status.stage.index == 0
    assert metric(world) is None
    world.live(900)
    assert world.rollout.status.state is State.STABLE
