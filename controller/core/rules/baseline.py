"""Measure stable's past before the candidate gets traffic, so that the candidate cannot move its own yardstick."""

from __future__ import annotations

from controller.api.delivery import MetricName
from controller.api.guardrails import GuardrailName
from controller.api.reasons import Reason
from controller.api.status import Evidence, GuardrailEvidence, MetricEvidence
from controller.core.assess import blind
from controller.core.counts import Span, UnusableSamplesError
from controller.core.evidence import stored
from controller.core.guardrails import read_definitions
from controller.core.limits import mean_at_most
from controller.core.outcome import Outcome, Report, View
from controller.core.reading import BlindError, Reading, read
from controller.core.reports import NotReportedError, Reports, StaleReportsError
from controller.core.stages import WAITS, Arm, needs_past
from controller.core.tally import edges_above, multiple_of_p95

QUANTILES = (0.5, 0.95)
"""P50 and P95 of stable; latency's edges are the histogram's nearest ones above."""

MIN_REQUESTS = 50
"""Fewer requests say too little about a P95."""


def baseline(view: View) -> Outcome | None:
    """Latency needs its edges, or no stage compares everyone -> look at stable's past, at weight 0."""
    if view.status.stage is not None or not needs_past(view.status, view.snapshot.stages):
        return None
    if view.snapshot.samples is None:
        is_over = view.progressing.reason in WAITS
        said = _waiting("the first stage waits: stable's past is read next") if is_over else view.progressing
        return Outcome(view.status, said)
    try:
        past, limits = _past(
            view, read(view.snapshot.rollout.metadata.key, view.snapshot.samples, view.catalogue)
        )
        lacking, reported, limits_reported = _reported_past(view)
    except (BlindError, StaleReportsError, UnusableSamplesError) as error:
        status = blind(view.status, str(error), view.snapshot.analysis, view.now)
        return Outcome(status, Report("True", Reason.ANALYSIS_BLIND, f"the first stage waits: {error}"))
    evidence = (view.status.evidence or Evidence()).model_copy(update={"problem": ""})
    status = view.status.model_copy(update={"evidence": evidence, "analysis": [], "verdict": None})
    if lacking:
        return Outcome(status, _waiting(f"the first stage waits: {lacking}"))
    past += reported
    requests = max((reference.total for metric in past for reference in metric.reference), default=0)
    if requests < MIN_REQUESTS:
        return Outcome(
            status,
            _waiting(
                f"the first stage waits until stable has answered {MIN_REQUESTS} requests to compare with, {requests} so far"
            ),
        )
    fixed = evidence.model_copy(update={"metrics": past, "guardrails": [*limits, *limits_reported]})
    return Outcome(
        status.model_copy(update={"evidence": fixed}),
        _waiting(f"stable's past is known from {requests} requests"),
        again=True,
    )


def _past(view: View, reading: Reading) -> tuple[list[MetricEvidence], list[GuardrailEvidence]]:
    """What the router counted of stable, and the limits that follow."""
    assert view.status.stable is not None  # noqa: S101  initialise stands before
    everything = Span(after=0.0, until=reading.until, not_before=0.0)
    stable = Arm(view.status.stable.revision, audience=False)
    histogram = reading.tally.histogram(stable, everything, reading.scrapes)
    found = []
    for metric in view.snapshot.analysis.metrics:
        if not metric.is_from_router:
            continue
        edges = edges_above(histogram, QUANTILES) if metric.name == MetricName.LATENCY else []
        counted = reading.tally.counts(metric.name, stable, edges, everything, reading.scrapes)
        found.append(MetricEvidence(name=metric.name, edges=edges, reference=list(map(stored, counted))))
    limits = [
        GuardrailEvidence(name=each.name, limit=multiple_of_p95(histogram, each.multiple))
        for each in view.snapshot.analysis.guardrails
        if each.name == GuardrailName.LATENCY
    ]
    return found, limits


def _reported_past(view: View) -> tuple[str, list[MetricEvidence], list[GuardrailEvidence]]:
    """The past of what agents report, and what is lacking: only histograms, which give edges, are waited for."""
    samples, stable, analysis = view.snapshot.samples, view.status.stable, view.snapshot.analysis
    assert samples is not None  # noqa: S101  the caller looked
    assert stable is not None  # noqa: S101  initialise stands before
    wanted = read_definitions(analysis, view.snapshot.rollout.metadata.key)
    if wanted and samples.reports_problem:
        raise StaleReportsError(samples.reports_problem)
    metrics, limits, names = [], [], {metric.name for metric in analysis.metrics}
    for definition in wanted:
        reports = Reports.of(definition, samples.reports, view.snapshot.rollout.metadata.namespace)
        try:
            everything = Span(0.0, reports.until(samples.at.timestamp(), [stable]), 0.0)
            histogram = reports.histogram(stable, everything)
            edges = edges_above(histogram, QUANTILES)
            reference = list(map(stored, reports.counts(stable, edges, everything)))
        except NotReportedError as error:
            if definition.buckets:
                return f"{definition.name}: {error}", [], []
            continue
        tasks = reference[0].total if reference else 0
        if definition.buckets and tasks < MIN_REQUESTS:
            words = f"stable has reported {tasks} of {MIN_REQUESTS} tasks to compare with"
            return f"{definition.name}: {words}", [], []
        if definition.name in names:
            metrics.append(MetricEvidence(name=definition.name, edges=edges, reference=reference))
        limits += [
            GuardrailEvidence(name=each.name, limit=mean_at_most(histogram) * each.multiple)
            for each in analysis.guardrails
            if each.name == definition.name and each.has_edges
        ]
    return "", metrics, limits


def _waiting(message: str) -> Report:
    return Report("True", Reason.AWAITING_EVIDENCE, message)
