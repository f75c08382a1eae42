"""Which of Envoy's counters are evidence. The table is what tests/integration/test_envoy_counters.py sees Envoy do.

One request each, to an HTTP/1.1 agent (the only upstream protocol here: of a broken HTTP/2 connection Envoy counts the
connection, not its requests). The columns are the cluster's ``upstream_rq_completed``, ``…_rq_5xx``, samples of
``…_rq_time``, ``…_cx_protocol_error``, ``…_rq_per_try_idle_timeout``, ``…_cx_destroy_remote_with_active_rq`` and
``…_rq_pending_failure_eject``:

============================  =========  ===  ====  ========  ====  ======  =====
what happened                 completed  5xx  time  protocol  idle  remote  eject
============================  =========  ===  ====  ========  ====  ======  =====
answer below 500              1          .    1     .         .     .       .
5xx from the agent            1          1    1     .         .     .       .
connection refused, or late   1          1    .     .         .     .       1
no address for the name       1          1    .     .         .     .       .
circuit breaker               1          1    .     .         .     .       .
cut before the headers        1          1    .     .         .     1       .
cut in the body               1          .    .     1         .     1       .
not HTTP                      1          1    .     1         .     .       .
silence before the headers    1          1    .     .         1     .       .
silence in the body           1          .    .     .         1     .       .
user left before the headers  .          .    .     .         .     .       .
user left in the body         1          .    .     .         .     .       .
user stopped uploading        .          .    .     .         .     .       .
user stopped reading          1          .    .     .         1     .       .
WebSocket, however it ends    1          .    .     .         .     .       .
============================  =========  ===  ====  ========  ====  ======  =====

``completed`` and ``5xx`` move with the headers, the rest when it happens, perhaps intervals later. A break after good
headers therefore counts as an event of its own, in the total too: so the bad never outnumber the total in any interval.

What the counters cannot tell: silence before the headers, an answer that is not HTTP and a 5xx whose body is cut as
well are two bad events each (and two in the total); a body without a length that ends by a cut connection looks
finished; users who lose patience before the headers are only in ``…_cx_destroy_local_with_active_rq``, together with
those who leave later.
"""

from __future__ import annotations

from controller.core.catalogue import CounterTerm, LatencyDefinition, MetricDefinition

CLUSTER_LABEL = "envoy_cluster_name"
"""The label whose value is ``naming.cluster_name(…)``."""

LIVENESS_METRIC = "envoy_server_live"
"""A gauge that every scrape of an Envoy has, also while counters that were never touched are missing."""

LATENCY_EDGES_MS = (
    5, 6, 8, 10, 12, 15, 19, 24, 30, 37, 47, 58, 73, 91, 110, 140, 180, 220, 280, 350, 430, 540, 680, 850,
    1100, 1300, 1700, 2100, 2600, 3200, 4000, 5000, 6300, 7900, 9900, 12_000, 15_000, 19_000, 24_000, 30_000,
    37_000, 46_000, 58_000, 72_000, 90_000, 120_000,
)  # fmt: skip
"""Histogram edges in steps of about 1.25. Envoy keeps two significant digits of every sample, so an edge with more
digits would be counted at the wrong place; these have two. A sample equal to an edge counts as slower than it."""


def _term(name: str, **labels: str) -> CounterTerm:
    return CounterTerm(f"envoy_cluster_upstream_{name}", tuple(labels.items()))


_BROKEN = (_term("cx_protocol_error"), _term("rq_per_try_idle_timeout"))

ERRORS = MetricDefinition(
    name="errors",
    total=(_term("rq_completed"), *_BROKEN),
    bad=(_term("rq_xx", envoy_response_code_class="5"), *_BROKEN),
)
"""5xx answers, Envoy's own included, and answers that broke off or fell silent after a good status."""

LATENCY = LatencyDefinition(
    name="latency",
    buckets="envoy_cluster_upstream_rq_time_bucket",
    count=_term("rq_time_count"),
    lost=(
        _term("cx_destroy_remote_with_active_rq"),
        _term("rq_pending_failure_eject"),
        _term("rq_per_try_idle_timeout"),
    ),
    edges=LATENCY_EDGES_MS,
)
"""Answers by their time to the last byte; those that broke, were refused or fell silent never got there."""
