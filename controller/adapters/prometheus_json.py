"""Prometheus' answers, decoded straight into what is read of them.

An evaluation reads more than a thousand samples for each rollout: decoded by the standard library and turned into numbers one by
one, they would cost as much as all of its statistics.
"""

from __future__ import annotations

from typing import TypedDict

import msgspec


class Element(msgspec.Struct, frozen=True):
    """One element of a vector or a matrix.

    Attributes:
        metric: Its labels.
        value: ``(unix seconds, value)`` at one instant.
        values: The same over time, oldest first.
        histograms: Native histograms over time; what they counted is not read.
    """

    metric: dict[str, str]
    value: tuple[float, float] | None = None
    values: tuple[tuple[float, float], ...] = ()
    histograms: tuple[tuple[float, msgspec.Raw], ...] = ()


class Data(TypedDict):
    """The answer to a query: elements, or the instant and the text of a scalar or string."""

    result: list[Element | float | str]


class Body(TypedDict):
    """What is read of the body of an answer."""

    data: Data


_DECODER = msgspec.json.Decoder(Body, strict=False)


def decoded(content: bytes) -> Body:
    """The answer in an HTTP response.

    Raises:
        ValueError: If it is none.
    """
    # The one way to write a number that the decoder does not know; le="+Inf" is text and stays.
    return _DECODER.decode(content.replace(b'"+Inf"]', b'"Inf"]'))
