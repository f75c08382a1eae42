"""What stable's control slices tell about one metric, as state that goes on after a restart.

Each test of the metric has its own: the slices' counts so far, from which its clustering is estimated for the next
interval, and the A/A check.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from controller.api.status import MetricEvidence
from controller.core.counts import Events, Tallied
from controller.core.dispersion import Scatter, clustering
from controller.core.mixture import FREEDOM, UnknownStateError, decode_state, encode_state
from controller.core.soundness import ControlTest
from controller.core.traffic import CONTROL_SLICES

_VERSION = "c1"


@dataclass(frozen=True, slots=True)
class Controls:
    """The control slices beside one test.

    Attributes:
        counts: Of each slice, over all intervals counted so far in the rollout.
        check: The A/A check.
        scatter: How they and the rest of stable scattered within intervals.
    """

    counts: tuple[Events, ...] = (Tallied(),) * CONTROL_SLICES
    check: ControlTest = field(default_factory=ControlTest)
    scatter: Scatter = field(default_factory=Scatter)

    def after(
        self,
        slices: Sequence[Events],
        stable: Events,
        log_e_values: tuple[float, ...],
        phi: float,
        enough: float,
        freedom: float = FREEDOM,
    ) -> Controls:
        """The state after one more interval.

        Args:
            slices: Counts of each slice in the interval.
            stable: Counts of all of stable in it.
            log_e_values: What ``soundness.control_log_e_values`` makes of them.
            phi: The clustering as it was estimated before.
            enough: More evidence of noise than this makes no difference.
            freedom: In how many degrees of freedom that was.
        """
        counts = tuple(
            Tallied(before.bad + more.bad, before.total + more.total)
            for before, more in zip(self.counts, slices, strict=True)
        )
        check = self.check.after(log_e_values, phi, freedom)
        rest = Tallied(
            max(stable.bad - sum(each.bad for each in slices), 0),
            max(stable.total - sum(each.total for each in slices), 0),
        )
        return Controls(counts, check.forgetting(enough), self.scatter.after([*slices, rest]))

    def encode(self) -> str:
        """One line of text; ``decode`` reads it back."""
        counted = [number for each in self.counts for number in (each.bad, each.total)]
        scatter = (self.scatter.squares, self.scatter.expected)
        return f"{encode_state(_VERSION, *counted, *scatter)};{self.check.encode()}"

    @classmethod
    def decode(cls, text: str) -> Controls:
        """The state written by ``encode``.

        Raises:
            UnknownStateError: If the text is not such a state.
        """
        counts, _, check = text.partition(";")
        *numbers, squares, expected = decode_state(counts, _VERSION, 2 * CONTROL_SLICES + 2)
        if min(*numbers, squares, expected) < 0 or max(*numbers, squares, expected) == math.inf:
            raise UnknownStateError(f"status.evidence has the unknown state {text[:60]!r}")
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        return cls(
            tuple(Tallied(int(bad), int(total)) for bad, total in pairs),
            ControlTest.decode(check),
            Scatter(squares, expected),
        )


class Clustering(NamedTuple):
    """φ, and in how many degrees of freedom it is known."""

    phi: float
    freedom: float = FREEDOM


def clusterings(
    everyone: MetricEvidence | None, tests: int, prior: float, *, audience: bool
) -> list[Clustering]:
    """φ_t of each test of a metric, from what was counted up to t − 1.

    Nobody of an audience is in a slice. It is taken to be no less clustered than everyone, nor than is said.

    Args:
        everyone: The metric's state for everyone, before this interval.
        tests: How many tests the metric has.
        prior: ``analysis.clustering``.
        audience: Whether the audience is compared.

    Raises:
        UnknownStateError: If a stored state is not one of this version's.
    """
    found = [
        Clustering(clustering(each.counts, prior, each.scatter), each.scatter.freedom(prior))
        for each in _controls(everyone, tests)
    ]
    return [Clustering(max(prior, phi), freedom) for phi, freedom in found] if audience else found


def with_slices(
    state: MetricEvidence,
    slices: Sequence[Sequence[Events]],
    stable: Sequence[Events],
    log_e_values: Sequence[tuple[float, ...]],
    clustered: list[Clustering],
    enough: float,
) -> list[str]:
    """``controls`` of the metric after one more interval.

    Args:
        state: The state of the metric for everyone.
        slices: For each test the counts of each slice in the interval.
        stable: For each test the counts of all of stable in it.
        log_e_values: For each test what ``soundness.control_log_e_values`` makes of them.
        clustered: φ_t of each test.
        enough: More evidence of noise than this makes no difference.

    Raises:
        UnknownStateError: If a stored state is not one of this version's.
    """
    return [
        each.after(of_test, whole, values, phi, enough, freedom).encode()
        for each, of_test, whole, values, (phi, freedom) in zip(
            _controls(state, len(slices)), slices, stable, log_e_values, clustered, strict=True
        )
    ]


def noise_so_far(
    state: MetricEvidence, log_e_values: Sequence[tuple[float, ...]], clustered: list[Clustering]
) -> float:
    """``control_e_value`` within an interval.

    Args:
        state: The metric's state before it.
        log_e_values: For each test what the A/A check made of the interval so far; none where there are no slices.
        clustered: φ_t of each test.

    Raises:
        UnknownStateError: If a stored state is not one of this version's.
    """
    if not log_e_values:
        return control_e_value(state)
    found = [
        each.check.after(values, phi, freedom).e_value
        for each, values, (phi, freedom) in zip(
            _controls(state, len(log_e_values)), log_e_values, clustered, strict=True
        )
    ]
    return sum(found) / len(found)


def control_e_value(state: MetricEvidence) -> float:
    """E of the metric's A/A check, averaged as its harm tests are; 1 where there were no slices.

    Raises:
        UnknownStateError: If a stored state is not one of this version's.
    """
    found = [decoded(text).check.e_value for text in state.controls]
    return sum(found) / len(found) if found else 1.0


def sizes_of(state: MetricEvidence | None) -> list[int]:
    """How many events each control slice had so far; none where there were no slices.

    Raises:
        UnknownStateError: If a stored state is not one of this version's.
    """
    return [each.total for each in decoded(state.controls[0]).counts] if state and state.controls else []


@lru_cache(maxsize=256)
def decoded(text: str) -> Controls:
    """The state written by ``Controls.encode``; an evaluation asks for the same one several times.

    Raises:
        UnknownStateError: If the text is not such a state.
    """
    return Controls.decode(text)


def _controls(state: MetricEvidence | None, tests: int) -> list[Controls]:
    """Nothing is known of slices in states of older versions."""
    known = [decoded(text) for text in state.controls] if state else []
    return known or [Controls()] * tests
