"""Splitting a byte stream into lines, without a limit on the length of a line."""

from __future__ import annotations


class LineSplitter:
    """Collects chunks and gives back whole lines.

    The parts of an unfinished line are joined only once its end has come, so that a line of many chunks costs
    its length and not its square.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes, without their newlines; blank lines are left out."""
        head, newline, rest = chunk.partition(b"\n")
        self._parts.append(head)
        if not newline:
            return []
        lines = [b"".join(self._parts), *rest.split(b"\n")]
        self._parts = [lines.pop()]
        return [line for line in lines if line.strip()]
