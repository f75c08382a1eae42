"""Asks agents once more, over HTTP/1.1, as the routers' mirrors do: to nobody, and without credentials or cookies."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from controller.adapters.envoy.mirrors import LARGEST_BODY, SHADOW_HEADER
from controller.adapters.envoy.naming import ARTIFACT_HEADER
from controller.adapters.envoy.unpacking import (
    BrokenBodyError,
    TooLargeError,
    UnknownEncodingError,
    unpack,
)
from controller.adapters.shadow_ports import TooLargeError as AnswerTooLargeError
from controller.adapters.shadow_ports import UnreachableError
from controller.core.shadow.exchange import Answer, Headers, Question, Target

CONNECT_SECONDS = 2.0
"""As the routers' own limit."""

_KEPT = ("accept", "accept-language", "content-type")
"""Request headers that go on."""

_NOT_ASKED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
"""After these the agent has not heard of the question."""


class HttpAgents:
    """See ``Agents``. Redirects are not followed, and neither proxies nor credentials are taken from the environment."""

    def __init__(self, *, at_once: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """No connection is open yet.

        Args:
            at_once: Requests at once.
            monotonic: Seconds that never go back.
        """
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(),
            trust_env=False,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
            # A connection that the agent closes while it is taken again would look like the agent's failure.
            limits=httpx.Limits(max_connections=at_once, max_keepalive_connections=0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        self._monotonic = monotonic

    async def ask(self, target: Target, artifact: str, question: Question) -> Answer:
        """See ``Agents.ask``."""
        began = self._monotonic()
        answer = _Arriving()
        try:
            async with asyncio.timeout(target.seconds):
                await self._read(target, artifact, question, answer)
        except _NOT_ASKED as error:
            raise UnreachableError(type(error).__name__) from None
        except (TimeoutError, httpx.HTTPError):
            answer.complete = False
        return answer.done(self._monotonic() - began)

    async def close(self) -> None:
        """See ``Agents.close``."""
        await self._client.aclose()

    async def _read(self, target: Target, artifact: str, question: Question, answer: _Arriving) -> None:
        headers = {name: value for name, value in question.headers if name in _KEPT}
        headers |= {
            "host": target.host,
            "accept-encoding": "identity",
            SHADOW_HEADER: "1",
            ARTIFACT_HEADER: artifact,
        }
        url = f"{target.url}{question.path}"
        async with self._client.stream(
            question.method, url, headers=headers, content=question.body
        ) as response:
            answer.status = response.status_code
            answer.headers = tuple((name.lower(), value) for name, value in response.headers.items())
            async for piece in response.aiter_raw():
                answer.add(piece)
        answer.complete = True


class _Arriving:
    """An answer as far as it has arrived."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: Headers = ()
        self.complete = False
        self._body = bytearray()

    def add(self, piece: bytes) -> None:
        if len(self._body) + len(piece) > LARGEST_BODY:
            raise AnswerTooLargeError
        self._body += piece

    def done(self, seconds: float) -> Answer:
        body, encoding = bytes(self._body), dict(self.headers).get("content-encoding", "")
        try:
            body = unpack(body, encoding, LARGEST_BODY)
        except BrokenBodyError as error:
            body, self.complete = error.readable, False
        except (TooLargeError, UnknownEncodingError):
            raise AnswerTooLargeError from None
        return Answer(self.status, self.headers, body, self.complete, seconds)
