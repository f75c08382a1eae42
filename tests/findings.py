"""A finding to start from."""

from __future__ import annotations

from controller.api.status import Counts
from controller.core.verdict import Finding

FINDING = Finding(
    name="errors",
    candidate=Counts(bad=12, total=400),
    baseline=Counts(bad=30, total=4_000),
    e_value=1.0,
    compared=True,
    own=True,
    min_requests=100,
)
