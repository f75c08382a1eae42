"""The servers of feature flags that the operator was given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from controller.adapters.flags.ofrep import OfrepSource
from controller.api.kill_switches import SwitchSource
from controller.core.flags import FlagBook
from controller.runtime.clock import Clock
from controller.runtime.manager import Manager
from controller.settings import OperatorSettings

PATIENCE_SECONDS = 2.0
"""Routers must not wait longer than this for a server of flags that does not answer."""

_ABSENT = "the operator was started without {}"


@dataclass(frozen=True, slots=True)
class FlagServers:
    """What they say, and who listens to them.

    Attributes:
        books: What each says; of one that the operator was not given, that.
        followers: Listen to those that it was given.
    """

    books: Mapping[SwitchSource, FlagBook]
    followers: Mapping[SwitchSource, Callable[[], Awaitable[None]]]

    @classmethod
    def of(cls, settings: OperatorSettings, clock: Clock) -> Self:
        """All servers, not yet followed."""
        books = {SwitchSource.OFREP: FlagBook(), SwitchSource.FLAGD: FlagBook()}
        followers: dict[SwitchSource, Callable[[], Awaitable[None]]] = {}
        if settings.ofrep_url is not None:
            ofrep = OfrepSource(settings.ofrep_url, settings.ofrep_http, books[SwitchSource.OFREP], clock)
            followers[SwitchSource.OFREP] = ofrep.run
        if settings.flagd_address is not None:
            # It takes a part of a second to import.
            from controller.adapters.flags.flagd import FlagdSource  # noqa: PLC0415

            where = settings.flagd_address
            flagd = FlagdSource(
                where.host, where.port, settings.flagd_ca_file, books[SwitchSource.FLAGD], clock
            )
            followers[SwitchSource.FLAGD] = flagd.run
        options = {SwitchSource.OFREP: "--ofrep-url", SwitchSource.FLAGD: "--flagd-address"}
        for source in books.keys() - followers.keys():
            books[source].fail(_ABSENT.format(options[source]), books[source].number(), clock.now())
        return cls(books, followers)

    def join(self, manager: Manager) -> None:
        """Follow all of them."""
        for source, follow in self.followers.items():
            manager.add_runnable(f"flags of {source}", follow)

    async def first_answers(self) -> None:
        """Return once each has answered or failed to, or has taken too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                for source in self.followers:
                    await _first_word(self.books[source])


async def _first_word(book: FlagBook) -> None:
    spoken = asyncio.Event()
    book.on_change(lambda _: spoken.set())
    if not book.is_heard:
        await spoken.wait()
