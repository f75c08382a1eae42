"""A server that speaks OFREP: one question for all its flags, twice a second.

The OpenFeature provider for OFREP asks for each flag by itself and blocks meanwhile; the protocol has a question for all.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import httpx
import structlog

from controller.adapters.prometheus_http import CredentialsError, HttpConfig
from controller.core.flags import LOST_AFTER, FlagBook, Value
from controller.runtime.clock import Clock

_log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = LOST_AFTER.total_seconds()
"""However long the server asks to be left alone: for longer nobody may believe that a switch is off."""

CONTEXT = {"context": {"targetingKey": "agentrollout"}}
"""The same for every flag: a rollout has flags of its own."""


class OfrepSource:
    """Asks until it is cancelled.

    Args:
        url: Where ``/ofrep/v1`` is found.
        http: How to speak to it.
        book: What it says.
        clock: Source of time.
    """

    def __init__(self, url: str, http: HttpConfig, book: FlagBook, clock: Clock) -> None:
        self._url = f"{url.rstrip('/')}/ofrep/v1/evaluate/flags"
        self._http = http
        self._book = book
        self._clock = clock

    async def run(self) -> None:
        """Follow the server; returns only by cancellation."""
        async with httpx.AsyncClient(verify=_tls(self._http), timeout=TIMEOUT_SECONDS) as client:
            while True:
                began = self._clock.monotonic()
                pause = await self._ask(client)
                took = self._clock.monotonic() - began
                await self._clock.sleep(max(pause - took, 0.0))

    async def _ask(self, client: httpx.AsyncClient) -> float:
        """Ask once.

        Returns:
            Seconds until the next question.
        """
        number = self._book.number()
        try:
            # The client's own timeout is one for each read: an answer may come byte by byte for ever.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                answer = await client.post(self._url, json=CONTEXT, headers=self._headers())
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                self._fail("it asks for fewer questions (429)", number)
                return _pause(answer.headers.get("retry-after", ""))
            if answer.status_code != httpx.codes.OK:
                self._fail(f"it answered {answer.status_code}", number)
                return POLL_SECONDS
            values = read_flags(answer.json())
        except (httpx.HTTPError, CredentialsError, TimeoutError) as error:
            self._fail(str(error) or type(error).__name__, number)
        except Exception:  # noqa: BLE001  whatever it answers, the operator runs on
            self._fail("its answer is none of OFREP", number)
        else:
            self._book.tell(values, number, self._clock.now())
        return POLL_SECONDS

    def _headers(self) -> dict[str, str]:
        authorization = self._http.authorize()
        return self._http.headers() | ({"authorization": authorization} if authorization else {})

    def _fail(self, problem: str, number: int) -> None:
        self._book.fail(problem, number, self._clock.now())


def read_flags(answer: Any) -> dict[str, Value]:
    """The values in an answer to the question for all flags; one that could not be evaluated has none.

    Raises:
        Exception: It is no such answer, in whatever way.
    """
    return {
        str(flag["key"]): plain(flag["value"])
        for flag in answer["flags"]
        if "errorCode" not in flag and flag.get("value") is not None
    }


def plain(value: Any) -> Value:
    """The value of a flag; an object is a text that no switch has a word for."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _pause(asked: str) -> float:
    """What ``Retry-After`` asks for; a date is not worth understanding."""
    seconds = float(asked) if asked.isdecimal() else POLL_SECONDS
    return min(max(seconds, POLL_SECONDS), LONGEST_PAUSE_SECONDS)


def _tls(http: HttpConfig) -> ssl.SSLContext:
    files = http.tls_config
    context = ssl.create_default_context(cafile=files.ca_file)
    if files.cert_file is not None:
        context.load_cert_chain(files.cert_file, files.key_file)
    return context
