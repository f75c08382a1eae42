"""The Envoy router's counters as evidence."""

from __future__ import annotations

from controller.adapters.envoy.metrics import (
    CLUSTER_LABEL,
    ERRORS,
    LATENCY,
    LIVENESS_METRIC,
    OVERRIDE_METRIC,
    SLICE_LABEL,
)
from controller.adapters.envoy.naming import cluster_name
from controller.core.tally import Catalogue

CATALOGUE = Catalogue(
    liveness=LIVENESS_METRIC,
    override=OVERRIDE_METRIC,
    label=CLUSTER_LABEL,
    slice_label=SLICE_LABEL,
    value=cluster_name,
    errors=ERRORS,
    latency=LATENCY,
)
