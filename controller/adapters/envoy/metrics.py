"""Which of Envoy's counters are evidence. The table is what tests/integration/test_envoy_counters.py sees Envoy do.

One request each, to an HTTP/1.1 agent; HTTP/2 follows below. The columns are the cluster's ``upstream_rq_completed``, ``…_rq_5xx``,
``…_cx_protocol_error``, ``…_rq_per_try_idle_timeout``, samples of ``…_rq_time``,
``…_cx_destroy_remote_with_active_rq``, ``…_cx_destroy_local_with_active_rq``, ``…_rq_pending_failure_eject`` and
``…_rq_cancelled``; then what the two metrics make of them, as bad/total:

===============================  =====  ===  =====  ====  ====  ======  =====  =====  ======  ======  =======
what happened                    compl  5xx  proto  idle  time  remote  local  eject  cancel  errors  latency
===============================  =====  ===  =====  ====  ====  ======  =====  =====  ======  ======  =======
answer below 500                 1      .    .      .     1     .       .      .      .       0/1     0/1
5xx from the agent               1      1    .      .     1     .       .      .      .       1/1     0/1
103 before the answer            2      .    .      .     1     .       .      .      .       0/2     0/1
bytes after the answer           1      .    1      .     1     .       .      .      .       1/2     0/1
connection refused, or late      1      1    .      .     .     .       .      1      .       1/1     1/1
no address for the name          1      1    .      .     .     .       .      .      .       1/1     0/0
circuit breaker                  1      1    .      .     .     .       .      .      .       1/1     0/0
cut before the headers           1      1    .      .     .     1       .      .      .       1/1     1/1
cut in the body                  1      .    1      .     .     1       .      .      .       1/2     1/1
not HTTP                         1      1    1      .     .     .       1      .      .       2/2     1/1
not HTTP in the body             1      .    1      .     .     .       1      .      .       1/2     1/1
silence before the headers       1      1    .      1     .     .       1      .      .       2/2     1/1
silence in the body              1      .    .      1     .     .       1      .      .       1/2     1/1
answer before the upload's end   1      .    .      .     .     .       1      .      .       0/1     1/1
user left before the connection  .      .    .      .     .     .       .      .      1       0/0     1/1
user left before the headers     .      .    .      .     .     .       1      .      .       0/0     1/1
user left in the body            1      .    .      .     .     .       1      .      .       0/1     1/1
user stopped uploading           .      .    .      .     .     .       1      .      .       0/0     1/1
user stopped reading             1      .    .      1     .     .       1      .      .       1/2     1/1
WebSocket, however it ends       1      .    .      .     .     .       1      .      .       0/1     1/1
===============================  =====  ===  =====  ====  ====  ======  =====  =====  ======  ======  =======

``compl`` and ``5xx`` move with the headers, the rest when it happens, perhaps intervals later. For errors a break after
good headers therefore counts as an event of its own, in the total too: so the bad never outnumber the total in any
interval. For latency every request counts once, when it is over: an HTTP/1.1 connection carries one request at a time,
so that a request either reaches its last byte, or takes its connection with it, or ends before it had one.

What the counters cannot tell. For errors: silence before the headers, an answer that is not HTTP and a 5xx whose body
breaks as well are two bad events each (and two in the total), and a 103 is an event of its own; a body without a length
that ends by a cut connection looks finished; users who leave before the headers are not there at all. For latency: who
left a hung agent and who left a good stream are the same, and so is every WebSocket.

An HTTP/2 connection carries many requests, so that what happens to connections says little about them. Of these clusters
the three ``…_cx_…`` are not kept, but ``upstream_rq_rx_reset``, ``upstream_rq_tx_reset`` and the gRPC statuses in
`GRPC_ERRORS`; and ``…_rq_pending_failure_eject`` counts each request of a broken connection. Every request is a gRPC call
here; of any other, ``grpc`` stays as it is, and errors have one less:

===============================  =====  ===  ====  ====  ====  ====  ====  =====  ======  ======  =======
what happened                    compl  5xx  grpc  idle  time  rx    tx    eject  cancel  errors  latency
===============================  =====  ===  ====  ====  ====  ====  ====  =====  ======  ======  =======
OK, or the user's own fault      1      .    .     .     1     .     .     .      .       0/1     0/1
an error of the server           1      .    1     .     1     .     .     .      .       1/2     0/1
5xx without a gRPC status        1      1    .     .     1     .     .     .      .       1/1     0/1
connection refused, or late      1      1    1     .     .     .     .     1      .       3/3     1/1
circuit breaker                  1      1    1     .     .     .     .     .      .       2/2     0/0
reset before the headers         1      1    1     .     .     1     .     .      .       3/3     1/1
reset in the body                1      .    .     .     .     1     .     .      .       1/2     1/1
stream refused, or sent away     1      1    1     .     .     .     .     .      .       2/2     0/0
cut before the headers           1      1    1     .     .     .     .     1      .       3/3     1/1
cut in the body                  1      .    .     .     .     .     .     1      .       1/2     1/1
not HTTP/2                       1      1    1     .     .     .     1     .      .       2/2     1/1
not HTTP/2 in the body           1      .    .     .     .     .     1     .      .       0/1     1/1
silence before the headers       1      1    1     1     .     .     1     .      .       3/3     1/1
silence in the body              1      .    .     1     .     .     1     .      .       1/2     1/1
drained by the server, finished  1      .    .     .     1     .     .     .      .       0/1     0/1
answer before the upload's end   1      .    .     .     .     .     1     .      .       0/1     1/1
user left before the connection  .      .    .     .     .     .     .     .      1       0/0     1/1
user left before the headers     .      .    .     .     .     .     1     .      .       0/0     1/1
user left in the body            1      .    .     .     .     .     1     .      .       0/1     1/1
===============================  =====  ===  ====  ====  ====  ====  ====  =====  ======  ======  =======

docs/adr/0016-grpc.md says why, and what this cannot tell.
"""

from __future__ import annotations

from controller.adapters.envoy.naming import HTTP2
from controller.core.catalogue import CounterTerm, LatencyDefinition, MetricDefinition

CLUSTER_LABEL = "envoy_cluster_name"
"""The label whose value is ``naming.cluster_name(…)``."""

PROTOCOL_LABEL = "agentrollout_protocol"
"""A label that is ``h2`` on the series of clusters that speak HTTP/2, and absent from the others."""

SLICE_LABEL = "agentrollout_control_slice"
"""A label that is the number of the control slice on the series of a slice of stable, and absent from all others."""

GRPC_ERRORS = ("2", "4", "12", "13", "14", "15")
"""UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS: the statuses that OpenTelemetry's
conventions for gRPC call errors of a server. All others are answers, as those below 500 are."""

LIVENESS_METRIC = "envoy_server_live"
"""A gauge that every scrape of an Envoy has, also while counters that were never touched are missing."""

OVERRIDE_METRIC = "envoy_runtime_admin_overrides_active"
"""A gauge that is 1 while any runtime key is overridden by hand, as break-glass does."""

LATENCY_EDGES_MS = (
    5, 6, 8, 10, 12, 15, 19, 24, 30, 37, 47, 58, 73, 91, 110, 140, 180, 220, 280, 350, 430, 540, 680, 850,
    1100, 1300, 1700, 2100, 2600, 3200, 4000, 5000, 6300, 7900, 9900, 12_000, 15_000, 19_000, 24_000, 30_000,
    37_000, 46_000, 58_000, 72_000, 90_000, 120_000,
)  # fmt: skip
"""Histogram edges in steps of about 1.25. Envoy keeps two significant digits of every sample, so an edge with more
digits would be counted at the wrong place; these have two. A sample equal to an edge counts as slower than it."""


def _term(name: str, **labels: str) -> CounterTerm:
    return CounterTerm(f"envoy_cluster_upstream_{name}", tuple(labels.items()))


_BROKEN = (
    _term("cx_protocol_error"),
    _term("rq_per_try_idle_timeout"),
    _term("rq_rx_reset"),
    _term("rq_pending_failure_eject", **{PROTOCOL_LABEL: HTTP2}),
    *(CounterTerm(f"envoy_cluster_grpc_{status}") for status in GRPC_ERRORS),
)

ERRORS = MetricDefinition(
    name="errors",
    total=(_term("rq_completed"), *_BROKEN),
    bad=(_term("rq_xx", envoy_response_code_class="5"), *_BROKEN),
)
"""5xx answers, Envoy's own included, answers that broke off or fell silent after a good status, and gRPC's."""

LATENCY = LatencyDefinition(
    name="latency",
    buckets="envoy_cluster_upstream_rq_time_bucket",
    count=_term("rq_time_count"),
    lost=(
        _term("cx_destroy_remote_with_active_rq"),
        _term("cx_destroy_local_with_active_rq"),
        _term("rq_pending_failure_eject"),
        _term("rq_cancelled"),
        _term("rq_rx_reset"),
        _term("rq_tx_reset"),
    ),
    edges=LATENCY_EDGES_MS,
)
"""Requests by the time to their answer's last byte; those that broke, were refused or were given up never got there.

Users rarely wait for the idle timeout. If those who give up were left out, a version that never answers would have no
latency at all, and one that answers only some would look as fast as those. So whoever leaves before the last byte was
not answered in time, also in the middle of a good stream and at the end of a WebSocket: such users are in both arms
alike, because the split is random, and make the comparison less sharp but not wrong.
"""
