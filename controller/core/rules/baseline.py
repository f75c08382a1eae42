"""Fix the latency edges before the candidate gets traffic, so that it cannot move its own yardstick."""

from __future__ import annotations

import math

from controller.api.delivery import MetricName
from controller.api.reasons import Reason
from controller.api.status import Evidence, MetricEvidence
from controller.core.assess import BlindError, Reading, blind, read
from controller.core.counts import Span, UnusableSamplesError
from controller.core.outcome import Outcome, Report, View
from controller.core.stages import Arm, needs_edges
from controller.core.tally import edges_above

QUANTILES = (0.5, 0.95)
"""P50 and P95 of stable; the edges are the histogram's nearest ones above."""

MIN_REQUESTS = 50
"""Fewer requests say too little about a P95."""


def baseline(view: View) -> Outcome | None:
    """Latency is analysed and stable's latency is not known yet -> measure it, at weight 0."""
    if view.status.stage is not None or not needs_edges(view.status):
        return None
    if view.snapshot.samples is None:
        return Outcome(view.status, view.progressing)
    try:
        reading = read(view.snapshot.rollout.metadata.key, view.snapshot.samples, view.catalogue, view.now)
        histogram = _histogram(view, reading)
    except (BlindError, UnusableSamplesError) as error:
        status = blind(view.status, str(error), view.snapshot.analysis, view.now)
        return Outcome(status, Report("True", Reason.ANALYSIS_BLIND, f"the first stage waits: {error}"))
    evidence = (view.status.evidence or Evidence()).model_copy(update={"problem": ""})
    requests = histogram.get(math.inf, 0)
    status = view.status.model_copy(update={"evidence": evidence, "analysis": [], "verdict": None})
    if requests < MIN_REQUESTS:
        return Outcome(status, _waiting(f"stable's latency: {requests} of {MIN_REQUESTS} requests seen"))
    latency = MetricEvidence(name=MetricName.LATENCY, edges=edges_above(histogram, QUANTILES))
    fixed = evidence.model_copy(update={"metrics": [latency]})
    edges = " and ".join(f"{edge:g} ms" for edge in latency.edges)
    return Outcome(
        status.model_copy(update={"evidence": fixed}),
        _waiting(f"latency will be compared at {edges}"),
        again=True,
    )


def _histogram(view: View, reading: Reading) -> dict[float, int]:
    assert view.status.stable is not None  # noqa: S101  initialise stands before
    everything = Span(after=0.0, until=reading.until, not_before=0.0)
    return reading.tally.histogram(
        Arm(view.status.stable.revision, audience=False), everything, reading.scrapes
    )


def _waiting(message: str) -> Report:
    return Report("True", Reason.AWAITING_EVIDENCE, message)
