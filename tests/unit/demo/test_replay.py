from __future__ import annotations

from datetime import timedelta
from unittest.mock import AsyncMock

from controller.adapters.envoy.catalogue import CATALOGUE
from controller.adapters.ports import MetricSource, MetricSourceError
from controller.api.rollout import AgentRollout
from controller.core.counts import Series
from examples.demo.replay import sufficient_since
from tests.unit.demo.stories import CANDIDATE, NOW, STABLE, staged

DECIDED = NOW + timedelta(seconds=10)


def counter(name: str, revision: str, values: list[float], **labels: str) -> Series:
    """One sample a second from the first second of the stage on."""
    start = NOW.timestamp() + 1
    owner = {CATALOGUE.label: CATALOGUE.value("shop/support-agent", revision, False)} if revision else {}
    samples = tuple((start + second, value) for second, value in enumerate(values))
    return Series({"__name__": name, "job": "envoy", "instance": "a", **owner, **labels}, samples)


def arm(revision: str, total: int, bad: int) -> list[Series]:
    """Every second ``total`` more requests, of which ``bad`` fail."""
    name = "envoy_cluster_upstream_rq"
    return [
        counter(f"{name}_completed", revision, [total * second for second in range(10)]),
        counter(
            f"{name}_xx", revision, [bad * second for second in range(10)], envoy_response_code_class="5"
        ),
    ]


def stored(*series: Series) -> AsyncMock:
    source = AsyncMock(spec=MetricSource)
    source.read.return_value = series
    return source


LIVE = counter(CATALOGUE.liveness, "", [1.0] * 10)
STABLE_ARM = arm(STABLE["revision"], 40, 0)


def errors_only() -> AgentRollout:
    state = staged()
    analysis = state.spec.analysis.model_copy(update={"metrics": state.spec.analysis.metrics[:1]})
    spec = state.spec.model_copy(update={"analysis": analysis})
    return state.model_copy(update={"spec": spec})


async def test_the_first_scrape_that_suffices_is_found() -> None:
    gross = stored(LIVE, *STABLE_ARM, *arm(CANDIDATE["revision"], 10, 4))
    slight = stored(LIVE, *STABLE_ARM, *arm(CANDIDATE["revision"], 10, 2))
    found = [await sufficient_since(each, errors_only(), DECIDED) for each in (gross, slight)]

    assert NOW + timedelta(seconds=2) < found[0] < found[1] < DECIDED


async def test_without_such_a_scrape_it_is_the_decision_itself() -> None:
    healthy = stored(LIVE, *STABLE_ARM, *arm(CANDIDATE["revision"], 10, 0))
    assert await sufficient_since(healthy, errors_only(), DECIDED) == DECIDED
    unreachable = AsyncMock(spec=MetricSource)
    unreachable.read.side_effect = MetricSourceError("Prometheus cannot be reached")
    assert await sufficient_since(unreachable, errors_only(), DECIDED) == DECIDED
