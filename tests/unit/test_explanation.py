"""The evidence of a candidate over time, from what the operator told Prometheus."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from controller.api.guardrails import GuardrailAction
from controller.api.reasons import State, Verdict
from controller.api.status import GuardrailStatus
from controller.core.counts import Series
from controller.explanation.charts import ChartError, in_terminal, to_file
from controller.explanation.tables import headline, limits, over_time, sentences, telling, verdicts
from controller.explanation.timeline import Timeline, lifetime, timeline
from controller.reconcilers.evidence_metrics import CANDIDATE_INFO, SHOWN_AFTERWARDS, EvidenceMetrics
from controller.runtime.testing import FakeClock
from tests.comparing import shadowing
from tests.virtual import Behaviour, VirtualRollout, rollout_of

KEY = "shop/agent"


class Scraped:
    """A world whose evidence is scraped at every step, as Prometheus does."""

    def __init__(self, errors: float) -> None:
        self.registry = CollectorRegistry()
        self.world = VirtualRollout(rollout_of(), behaviour={"v2": Behaviour(errors=errors)})
        self.clock = FakeClock(self.world.now + timedelta(seconds=60))
        self.shown = EvidenceMetrics(self.registry, self.clock)
        self._samples: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = defaultdict(list)
        self.world.settle()
        self.world.live(60)
        self.world.want("http://v2")
        self.world.settle()
        candidate = self.world.rollout.status.candidate
        assert candidate is not None
        self.revision = candidate.revision

    def live(self, seconds: float) -> Scraped:
        end = self.world.now + timedelta(seconds=seconds)
        while self.world.now < end:
            self.world.live(5)
            self.clock.advance(5)
            self.shown.observe(KEY, self.world.rollout.status)
            for family in self.registry.collect():
                for sample in family.samples:
                    labels = (("__name__", sample.name), *sample.labels.items())
                    self._samples[labels].append((self.world.now.timestamp(), sample.value))
        return self

    @property
    def series(self) -> list[Series]:
        return [Series(dict(labels), tuple(samples)) for labels, samples in self._samples.items()]

    @property
    def info(self) -> list[Series]:
        return [one for one in self.series if one.labels["__name__"] == CANDIDATE_INFO]

    @property
    def timeline(self) -> Timeline:
        return timeline(self.series, self.revision)


@pytest.fixture(scope="module")
def taken_back() -> Scraped:
    scraped = Scraped(errors=0.3).live(120)
    assert scraped.world.rollout.status.state is State.ROLLED_BACK
    return scraped


@pytest.fixture(scope="module")
def promoted() -> Scraped:
    scraped = Scraped(errors=0.01).live(300)
    assert scraped.world.rollout.status.state is State.STABLE
    return scraped


def printed(*parts: object) -> str:
    console = Console(file=StringIO(), width=100)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_timeline_of_a_bad_candidate_ends_with_the_evidence_that_decided(taken_back: Scraped) -> None:
    found = taken_back.timeline
    last = found.points[-1]
    assert last.stage == "10%"
    assert last.metrics["errors"].verdict == "Fail"
    assert last.metrics["errors"].e_value >= found.threshold > 0
    assert last.metrics["errors"].candidate.bad > last.metrics["errors"].baseline.bad / 10


def test_the_timeline_of_a_good_candidate_names_its_stages_in_order(promoted: Scraped) -> None:
    found = promoted.timeline
    assert [stage for stage, _ in found.stages] == ["10%", "50%", "100%"]
    assert found.metrics == ("errors",)
    assert all(point.metrics["errors"].verdict != "Fail" for point in found.points if point.metrics)


def test_nothing_is_shown_of_a_rollout_with_no_candidate_and_of_one_that_is_gone(promoted: Scraped) -> None:
    shown = EvidenceMetrics(CollectorRegistry(), promoted.clock)
    shown.observe(KEY, promoted.world.rollout.status)
    assert not any(family.samples for family in shown.collect())
    bad = Scraped(errors=0.3).live(20)
    assert any(family.samples for family in bad.shown.collect())
    bad.shown.forget(KEY)
    assert not any(family.samples for family in bad.shown.collect())


def test_the_evidence_that_decided_is_shown_for_a_while_only() -> None:
    bad = Scraped(errors=0.3).live(120)
    assert any(family.samples for family in bad.shown.collect())
    bad.clock.advance(SHOWN_AFTERWARDS.total_seconds())
    assert not any(family.samples for family in bad.shown.collect())


def test_the_lifetime_of_a_candidate_begins_with_its_last_attempt(taken_back: Scraped) -> None:
    (began, ended) = lifetime(taken_back.info, taken_back.revision) or pytest.fail("it has none")
    long_before = began - timedelta(days=1)
    earlier = [
        Series(one.labels, tuple((time - 86_400, value) for time, value in one.samples))
        for one in taken_back.info
    ]
    assert lifetime([*earlier, *taken_back.info], taken_back.revision) == (began, ended)
    assert lifetime(earlier, taken_back.revision) == (long_before, ended - timedelta(days=1))
    assert lifetime(taken_back.info, "another") is None


def test_the_table_has_few_rows_with_the_first_the_last_and_the_changes(promoted: Scraped) -> None:
    points = promoted.timeline.points
    shown = telling(points, 8)
    assert len(shown) == 8
    assert (shown[0], shown[-1]) == (points[0], points[-1])
    assert {point.stage for point in shown} == {point.stage for point in points}
    assert telling(points[:3], 8) == list(points[:3])


def test_what_is_printed_fits_a_hundred_columns_and_names_the_verdict(taken_back: Scraped) -> None:
    rollout, found = taken_back.world.rollout, taken_back.timeline
    text = printed(
        headline(rollout), verdicts(rollout.status.analysis, None), over_time(found), in_terminal(found, 100)
    )
    assert "was taken back" in text
    assert "Fail" in text
    assert "a metric fails by itself at 100" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(("name", "begins"), [("plot.svg", b"<?xml"), ("plot.png", b"\x89PNG")])
def test_the_plot_is_written_in_the_format_of_its_ending(
    taken_back: Scraped, tmp_path: Path, name: str, begins: bytes
) -> None:
    to_file(taken_back.timeline, tmp_path / name, "shop/agent")
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_plot_that_cannot_be_written_is_told_so(taken_back: Scraped, tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="ends with neither"):
        to_file(taken_back.timeline, tmp_path / "plot.pdf", "")
    with pytest.raises(ChartError, match="No such file"):
        to_file(taken_back.timeline, tmp_path / "nowhere" / "plot.svg", "")


def test_an_evidence_series_is_dropped_when_another_replica_decides() -> None:
    bad = Scraped(errors=0.3).live(20)
    bad.shown.clear()
    assert not any(family.samples for family in bad.shown.collect())


def test_times_are_utc(taken_back: Scraped) -> None:
    assert taken_back.timeline.points[0].at.tzinfo is UTC
    assert taken_back.timeline.points[0].at > datetime(2026, 1, 1, tzinfo=UTC)


def test_each_limit_is_a_sentence_with_what_follows() -> None:
    kept = GuardrailStatus(
        name="latency",
        verdict=Verdict.PASS,
        action=GuardrailAction.ROLLBACK,
        message="within the limit: 1/60",
    )
    broken = GuardrailStatus(
        name="toolErrors", verdict=Verdict.FAIL, action=GuardrailAction.HOLD, message="beyond the limit: 9/60"
    )
    assert [str(sentence) for sentence in limits([kept, broken])] == [
        "limit of latency: Pass, within the limit: 1/60",
        "limit of toolErrors: Fail (Hold), beyond the limit: 9/60",
    ]


def test_a_candidate_in_the_shadow_is_explained_by_its_comparisons() -> None:
    world = shadowing({"minDuration": "1h"})
    world.live(60)
    assert "is Shadowing: candidate " in headline(world.rollout).plain
    assert "is in stage shadow\nShadowing: " in headline(world.rollout).plain
    told = StringIO()
    console = Console(file=told, width=160)
    console.print(verdicts(world.rollout.status.analysis, None), *sentences(world.rollout.status.analysis))
    (metric,) = world.rollout.status.analysis
    assert f"{metric.candidate.bad}/{metric.candidate.total}" in told.getvalue()
    assert f"and {metric.wins} won, baseline" in told.getvalue()
