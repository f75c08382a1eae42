"""What agents report: raw samples of many pods to counts of two versions."""

from __future__ import annotations

import math
from typing import Any

import pytest

from controller.api.delivery import Metric
from controller.api.status import VersionRef
from controller.core.agents import definition_of
from controller.core.counts import Series, Span, Tallied, UnusableSamplesError
from controller.core.reports import NotReportedError, Reports, StaleReportsError

CALLS = "agent_tool_calls_total"
CANDIDATE = VersionRef(revision="agent-b", artifact_id="sha256:bb")
STABLE = VersionRef(revision="agent-a", artifact_id="sha256:aa")
ALWAYS = Span(0, 1000, 0)

Samples = list[tuple[float, float]]


def series(
    name: str, samples: Samples, *, of: VersionRef = CANDIDATE, pod: str = "pod-0", **labels: str
) -> Series:
    whose = {"job": "agents", "instance": pod, "artifact": of.artifact_id}
    return Series({"__name__": name, **whose, **labels}, tuple(samples))


def calls(outcome: str, samples: Samples, **labels: Any) -> Series:
    return series(CALLS, samples, outcome=outcome, **labels)


def reports(*given: Series, namespace: str = "shop", **metric: Any) -> Reports:
    definition = definition_of(Metric.model_validate({"name": "toolErrors", **metric}))
    return Reports.of(definition, given, namespace)


def counted(
    *given: Series, span: Span = ALWAYS, edges: list[float] | None = None, **metric: Any
) -> list[Tallied]:
    return reports(*given, **metric).counts(CANDIDATE, edges or [], span)


def counts(bad: int, total: int) -> Tallied:
    return Tallied(bad=bad, total=total)


def test_pods_and_outcomes_add_up() -> None:
    assert counted(
        calls("ok", [(10, 5), (20, 9)]),
        calls("error", [(10, 1), (20, 3)]),
        calls("ok", [(11, 0), (21, 10)], pod="pod-1"),
        calls("ok", [(10, 0), (20, 50)], of=STABLE),
    ) == [counts(2, 16)]


def test_a_pod_that_starts_again_counts_from_0() -> None:
    assert counted(calls("ok", [(10, 90), (20, 4), (30, 6)])) == [counts(0, 6)]


def test_the_first_error_of_a_pod_counts_from_0_since_the_pod_was_scraped_without_it() -> None:
    given = calls("ok", [(10, 5), (20, 9)]), calls("error", [(20, 3)])
    assert counted(*given) == [counts(3, 7)]


def test_of_a_new_pod_only_differences_count() -> None:
    """It may be new to Prometheus alone, and have counted for days."""
    new = calls("ok", [(20, 500), (30, 504)], pod="pod-1"), calls("error", [(20, 40), (30, 41)], pod="pod-1")
    assert counted(calls("ok", [(10, 0), (20, 0), (30, 0)]), *new) == [counts(1, 5)]


def test_series_with_instants_of_their_own_do_not_tell_that_one_of_them_was_absent() -> None:
    """As through a collector that keeps timestamps: the window may have cut off what one of them had before."""
    assert counted(calls("ok", [(10.5, 5), (20.5, 9)]), calls("error", [(20.1, 300), (30.1, 301)])) == [
        counts(1, 5)
    ]


def test_a_pod_that_two_jobs_scrape_counts_once() -> None:
    again = [
        calls("ok", [(15, 7), (25, 12)], job="monitor"),
        calls("error", [(15, 2), (25, 4)], job="monitor"),
    ]
    given = [calls("ok", [(10, 5), (20, 9)]), calls("error", [(10, 1), (20, 3)])]
    assert counted(*given, *again) == [counts(3, 10)]


def test_labels_of_the_agent_s_own_are_not_those_of_a_scraper() -> None:
    given = calls("ok", [(10, 5), (20, 9)], service="refund"), calls("ok", [(10, 0), (20, 2)], service="book")
    assert counted(*given) == [counts(0, 6)]


def test_a_pod_that_another_job_scrapes_from_now_on_counts_by_its_differences() -> None:
    given = calls("ok", [(10, 5), (20, 9)]), calls("ok", [(25, 11), (35, 12)], job="monitor")
    assert counted(*given) == [counts(0, 5)]


def test_what_the_same_pod_reports_of_another_version_tells_when_it_was_scraped() -> None:
    given = calls("ok", [(10, 7), (20, 8)], of=STABLE), calls("error", [(20, 2)]), calls("ok", [(20, 6)])
    assert counted(*given) == [counts(2, 8)]


def test_a_span_leaves_out_what_was_counted_and_what_began_under_another_split() -> None:
    given = calls("ok", [(10, 0), (20, 1), (30, 11), (40, 111)])
    assert counted(given, span=Span(20, 30, 0)) == [counts(0, 10)]
    assert counted(given, span=Span(0, 1000, 15)) == [counts(0, 110)]


def test_the_end_is_what_the_slowest_living_pod_was_read_up_to() -> None:
    slow, gone = calls("ok", [(6, 0), (16, 1), (26, 2)], pod="slow"), calls("ok", [(1, 0)], pod="gone")
    fast = calls("ok", [(10, 0), (20, 1), (30, 2)])
    stable = calls("ok", [(9, 0), (19, 1), (29, 1)], of=STABLE)
    assert reports(slow, fast, gone, stable).until(31, [CANDIDATE, STABLE]) == 26


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            [],
            f'Prometheus has no {CALLS}{{artifact="sha256:bb"}}: does the agent report it, and is it scraped?',
        ),
        ([calls("ok", [(10, 1)], of=STABLE)], f'no {CALLS}{{artifact="sha256:bb"}}'),
        ([calls("ok", [])], f'no {CALLS}{{artifact="sha256:bb"}}'),
        ([calls("ok", [(10, 1)])], "scraped only once so far"),
        ([calls("ok", [(10, 1), (20, 2)], namespace="x")], "what has another namespace (x) does not count"),
    ],
)
def test_what_is_not_reported_is_named(given: list[Series], words: str) -> None:
    with pytest.raises(NotReportedError) as error:
        reports(*given).until(21, [CANDIDATE])
    assert words in str(error.value)


def test_a_namespace_that_the_definition_chooses_is_read() -> None:
    selector = {"metric": CALLS, "labels": {"namespace": "x"}}
    own: dict[str, Any] = {"name": "calls", "total": selector, "bad": selector}
    assert counted(calls("ok", [(10, 1), (20, 2)], namespace="x"), **own) == [counts(1, 1)]
    assert counted(calls("ok", [(10, 1), (20, 2)], namespace="shop")) == [counts(0, 1)]


def test_old_samples_are_no_evidence_of_the_present() -> None:
    given = reports(calls("ok", [(10, 1), (20, 2), (30, 3)]))
    assert given.until(51, [CANDIDATE]) == 30
    with pytest.raises(StaleReportsError, match="is 22 s old, but it is scraped every 10 s"):
        given.until(52, [CANDIDATE])


def test_a_counter_that_is_no_number_of_events_is_named() -> None:
    with pytest.raises(UnusableSamplesError, match=f"{CALLS} of pod-0 is nan"):
        counted(calls("ok", [(10, 1), (20, math.nan)]))


def test_opentelemetry_calls_with_an_error_type_are_bad_and_what_comes_back_is_not_counted_anew() -> None:
    name = "gen_ai_execute_tool_duration_seconds_count"
    good = series(name, [(10, 0), (20, 8)])
    bad = series(name, [(10, 4), (20, 6)], error_type="timeout")
    again = series(name, [(20, 900)], error_type="500")
    assert counted(good, bad, again, convention="OpenTelemetry") == [counts(2, 10)]


def histogram(edges: dict[str, Samples], count: Samples) -> list[Series]:
    buckets = [series("agent_task_tokens_bucket", samples, le=le) for le, samples in edges.items()]
    return [*buckets, series("agent_task_tokens_count", count)]


def test_tasks_above_each_edge_are_bad() -> None:
    given = histogram({"100.0": [(10, 0), (20, 5)], "200": [(10, 0), (20, 9)]}, [(10, 0), (20, 10)])
    assert counted(*given, name="tokensPerTask", edges=[100, 200]) == [counts(5, 10), counts(1, 10)]
    assert reports(*given, name="tokensPerTask").histogram(CANDIDATE, ALWAYS) == {100: 5, 200: 9}


def test_a_histogram_with_other_edges_than_the_baseline_s_is_not_all_bad() -> None:
    given = histogram({"100": [(10, 0), (20, 5)]}, [(10, 0), (20, 10)])
    with pytest.raises(NotReportedError, match=r'le="150".*must have the edges that stable\'s has'):
        counted(*given, name="tokensPerTask", edges=[150])


OWN: dict[str, Any] = {
    "name": "own",
    "total": {"metric": "calls_count"},
    "good": {"metric": "calls_bucket", "labels": {"le": "4"}},
    "version": {"label": "revision", "form": "Revision"},
}


def test_what_is_not_good_is_bad_and_an_edge_may_be_written_in_several_ways() -> None:
    whose: Any = {"revision": "agent-b"}
    bucket = series("calls_bucket", [(10, 0), (20, 7)], le="4.0", **whose)
    count = series("calls_count", [(10, 0), (20, 9)], **whose)
    assert counted(bucket, count, **OWN) == [counts(2, 9)]


def test_a_limit_that_is_no_edge_of_the_histogram_does_not_make_everything_bad() -> None:
    whose: Any = {"revision": "agent-b"}
    bucket = series("calls_bucket", [(10, 0), (20, 7)], le="5.0", **whose)
    count = series("calls_count", [(10, 0), (20, 9)], **whose)
    with pytest.raises(NotReportedError, match=r'calls_bucket\{revision="agent-b", le="4"\}'):
        counted(bucket, count, **OWN)


def test_more_bad_events_than_events_are_all_of_them() -> None:
    parts: dict[str, Any] = {"name": "own", "total": {"metric": "total"}, "bad": {"metric": "bad"}}
    assert counted(series("total", [(1, 0), (2, 1)]), series("bad", [(1, 0), (2, 5)]), **parts) == [
        counts(1, 1)
    ]


def test_a_scrape_is_known_by_its_millisecond() -> None:
    assert reports(calls("ok", [(10.0004, 5), (20, 9)])).saw(10)
    assert not reports(calls("ok", [(10.002, 5), (20, 9)])).saw(10)
