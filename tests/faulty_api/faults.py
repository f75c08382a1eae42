"""Ways in which an API server can misbehave, one class each.

A fault may answer in place of the server, do something to its answer, or tamper with the lines of a watch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.faulty_api.storage import Refusal

Handle = Callable[["Call"], Awaitable[web.StreamResponse]]
READS = frozenset({"list", "watch"})
ALL = frozenset({"list", "watch", "get", "create", "update", "patch", "delete"})
WRITES = ALL - READS - {"get"}


@dataclass
class Call:
    """One request.

    Attributes:
        request: As it came.
        verb: Of Kubernetes: list, watch, get, create, update, patch or delete.
        hits: The faults that concern it.
    """

    request: web.Request
    verb: str
    hits: list[Fault] = field(default_factory=list)

    @property
    def is_watch_list(self) -> bool:
        """Whether the initial events are asked for."""
        return self.verb == "watch" and self.request.query.get("sendInitialEvents") == "true"

    def abort(self) -> None:
        """Reset the connection."""
        if self.request.transport is not None:
            self.request.transport.abort()


@dataclass
class Fault:
    """No fault; the base of all.

    Attributes:
        verbs: What it concerns.
        times: How many more requests it hits; None for all.
    """

    verbs: frozenset[str] = ALL
    times: int | None = None

    def hits(self, call: Call) -> bool:
        """Whether it concerns the request, which then counts."""
        if call.verb not in self.verbs or self.times == 0 or not self.concerns(call):
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def concerns(self, _call: Call) -> bool:
        """Whether it concerns a request with one of its verbs."""
        return True

    async def answer(self, call: Call, handle: Handle) -> web.StreamResponse:
        """Answer a request, or let the server do it."""
        return await handle(call)

    def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines of a watch as they are sent."""
        return lines


@dataclass
class Refuses(Fault):
    """Answers with an error code."""

    code: int = 500
    reason: str = "InternalError"
    message: str = "told to"
    retry_after: int | None = None

    async def answer(self, call: Call, handle: Handle) -> web.StreamResponse:
        raise Refusal(self.code, self.reason, self.message, retry_after=self.retry_after)


@dataclass
class RefusesWatchLists(Refuses):
    """Is too old for WatchLists."""

    code: int = 422
    reason: str = "Invalid"
    message: str = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"

    def concerns(self, call: Call) -> bool:
        return call.is_watch_list


@dataclass
class ExpiresPages(Refuses):
    """Forgets continue tokens at once."""

    code: int = 410
    reason: str = "Expired"

    def concerns(self, call: Call) -> bool:
        return "continue" in call.request.query


@dataclass
class Resets(Fault):
    """Resets the connection without a word."""

    async def answer(self, call: Call, handle: Handle) -> web.StreamResponse:
        call.abort()
        await asyncio.Event().wait()
        raise AssertionError("the connection is gone")


@dataclass
class LosesAnswers(Fault):
    """Does what it is asked, and resets the connection instead of telling."""

    async def answer(self, call: Call, handle: Handle) -> web.StreamResponse:
        await handle(call)
        call.abort()
        await asyncio.Event().wait()
        raise AssertionError("the connection is gone")


@dataclass
class Hangs(Fault):
    """Accepts the request and never answers."""

    async def answer(self, call: Call, handle: Handle) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("it never ends")


@dataclass
class Answers(Fault):
    """Answers whatever a test likes."""

    with_: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def answer(self, call: Call, handle: Handle) -> web.StreamResponse:
        assert self.with_ is not None
        return await self.with_(call.request)


@dataclass
class Drips(Fault):
    """Sends its answers in small pieces, slowly."""

    piece: int = 64
    pause: float = 0.01

    async def answer(self, call: Call, handle: Handle) -> web.StreamResponse:
        answer = await handle(call)
        if not isinstance(answer, web.Response) or not isinstance(answer.body, bytes):
            return answer
        dripping = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        await dripping.prepare(call.request)
        for start in range(0, len(answer.body), self.piece):
            await dripping.write(answer.body[start : start + self.piece])
            await asyncio.sleep(self.pause)
        return dripping

    async def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            for start in range(0, len(line), self.piece):
                yield line[start : start + self.piece]
                await asyncio.sleep(self.pause)


@dataclass
class ClosesWatches(Fault):
    """Ends watches cleanly after so many lines."""

    verbs: frozenset[str] = frozenset({"watch"})
    after: int = 0

    async def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        sent = 0
        while sent < self.after:
            yield await anext(lines)
            sent += 1


@dataclass
class BreaksWatches(ClosesWatches):
    """Resets watches after so many lines, in the middle of the next one."""

    async def lines(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in super().lines(call, lines):
            yield line
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                line = await anext(lines)
                yield line[: len(line) // 2]
        call.abort()


@dataclass
class HalfOpen(ClosesWatches):
    """Sends nothing any more after so many lines, and keeps the connection."""

    async def lines(self, call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in super().lines(call, lines):
            yield line
        await asyncio.Event().wait()


@dataclass
class Expires(Fault):
    """Finds the version of every watch too old; in the stream, as a watch cache does."""

    verbs: frozenset[str] = frozenset({"watch"})

    def concerns(self, call: Call) -> bool:
        return not call.is_watch_list

    async def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        status = Refusal(410, "Expired", "too old resource version").status
        yield json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"


@dataclass
class Duplicates(Fault):
    """Sends each event twice, and each that is older once more after it."""

    verbs: frozenset[str] = frozenset({"watch"})
    replayed: int = 3

    async def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        before: list[bytes] = []
        async for line in lines:
            yield line
            for old in (*before, line):
                yield old
            if json.loads(line)["type"] != "BOOKMARK":
                before = [*before, line][-self.replayed :]


@dataclass
class Reorders(Fault):
    """Swaps neighbouring events, where the second comes within a moment."""

    verbs: frozenset[str] = frozenset({"watch"})
    moment: float = 0.05

    async def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        following: asyncio.Task[bytes] | None = None
        try:
            while True:
                held = await (following or asyncio.ensure_future(anext(lines)))
                following = asyncio.ensure_future(anext(lines))
                await asyncio.wait([following], timeout=self.moment)
                if following.done():
                    yield await following
                    following = None
                yield held
        except StopAsyncIteration:
            return
        finally:
            if following is not None:
                following.cancel()


@dataclass
class NeverEndsInitialEvents(Fault):
    """Leaves out the bookmark that ends the initial events, and everything after them."""

    verbs: frozenset[str] = frozenset({"watch"})

    def concerns(self, call: Call) -> bool:
        return call.is_watch_list

    async def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for line in lines:
            if json.loads(line)["type"] == "BOOKMARK":
                await asyncio.Event().wait()
            yield line


@dataclass
class SendsNonsense(Fault):
    """Sends a line that is no event, in place of so many watches' first."""

    verbs: frozenset[str] = frozenset({"watch"})
    line: Any = b"<html>log in</html>\n"

    async def lines(self, _call: Call, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield self.line
