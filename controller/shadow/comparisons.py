"""What is in the queue between capture and judges."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from controller.core.shadow.comparison import Bin, Case


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is in the queue.

    Attributes:
        case: The pair without personal data.
        decided: Where it ends, if no judge need be asked. It goes through the queue all the same: if only what is judged
            could be shed, a full queue would leave the failures over, and they would look like all there is.
    """

    case: Case
    decided: Bin | None = None


_comparisons = TypeAdapter(Comparison)


def encode(comparison: Comparison) -> bytes:
    """As it is in the queue."""
    return _comparisons.dump_json(comparison)


def decode(payload: bytes) -> Comparison:
    """See ``encode``.

    Raises:
        ValueError: It is no comparison.
    """
    return _comparisons.validate_json(payload)
