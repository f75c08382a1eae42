"""What the product needs from the outside, as small Protocols: one new file behind one of these is a new adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

from controller.core.counts import Series
from controller.core.traffic import Programmed, TrafficTable

__all__ = ["DataPlane", "MetricSource", "MetricSourceError", "Programmed", "TrafficRouter"]


class DataPlane(Protocol):
    """What routers say of themselves."""

    @property
    def routers(self) -> frozenset[str]:
        """Names of the connected router instances."""

    def programmed(self, key: str) -> Programmed:
        """What the data plane last acknowledged for the rollout ``namespace/name``."""


class TrafficRouter(DataPlane, Protocol):
    """Carries user traffic as the tables say. Implementations never block and never raise on a bad network."""

    def publish(self, table: TrafficTable) -> None:
        """Make ``table`` the wanted split of its rollout; idempotent, returns before it is acknowledged."""

    def remove(self, key: str) -> None:
        """Stop serving the rollout ``namespace/name``."""

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(key)`` on the event loop whenever ``programmed(key)`` may have changed."""


class MetricSourceError(Exception):
    """The source did not give a usable answer; the message says why in one sentence."""


class MetricSource(Protocol):
    """Reads raw counter samples."""

    async def read(
        self, names: Iterable[str], *, label: str, values: Iterable[str], window_seconds: float, at: datetime
    ) -> tuple[Series, ...]:
        """All raw samples in ``(at - window, at]`` of the named series, read at one instant.

        Args:
            names: Series names.
            label: A label that must have one of ``values``, or be missing from the series.
            values: Its values.
            window_seconds: How far to look back.
            at: The end of the window.

        Raises:
            MetricSourceError: On refused, late or malformed answers.
        """
