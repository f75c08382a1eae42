"""Raw counter samples from Prometheus, by prometheus-api-client."""

from __future__ import annotations

import asyncio
import json
import math
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from controller.adapters.ports import MetricSourceError, Question
from controller.adapters.prometheus_http import CredentialsError, HttpConfig
from controller.adapters.prometheus_json import Body, Element, decoded
from controller.core.counts import Scrapes, Series

MAX_SKEW_SECONDS = 2.0
"""How far the clock of a Prometheus may be from ours, besides the second that its ``Date`` leaves open."""

QUERIES_OF_PEOPLE = 4
"""So many may be under way at once, beside the questions of ours: slow ones must not keep routers' counters from deciding."""

_EDGE = "le"


_A = TypeVar("_A")


@dataclass(frozen=True, slots=True)
class Found:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


class PrometheusSource:
    """A Prometheus server as a MetricSource.

    The client is synchronous, so queries run in a few threads of their own under a deadline of ours: a hanging server
    costs its caller the deadline and nobody else anything. It never retries: the next evaluation is the retry.
    """

    def __init__(
        self,
        url: str,
        *,
        http: HttpConfig | None = None,
        deadline_seconds: float = 5.0,
        concurrency: int = 8,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: Base URL of the server.
            http: Credentials, TLS and further headers.
            deadline_seconds: A later answer counts as none.
            concurrency: How many questions may be under way at once.
        """
        self.url = url.rstrip("/")
        # What is said about the server ends in status and logs, where credentials have no place.
        parts = urlsplit(self.url)
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        http = http or HttpConfig()
        self._deadline = deadline_seconds
        self._client = PrometheusConnect(
            url=self.url,
            method="POST",
            retry=Retry(total=0),
            session=_Session(http),
            auth=_Authorization(http) if http.authorization or http.basic_auth else None,
            headers={"Accept-Encoding": "identity"},  # compressing costs both sides more than these few MB
        )
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="prometheus")
        self._for_people = ThreadPoolExecutor(QUERIES_OF_PEOPLE, thread_name_prefix="prometheus-queries")

    async def read(self, question: Question) -> tuple[Series, ...]:
        """See ``MetricSource.read``."""
        return await self._answer(partial(self._ask, question))

    async def vector(self, query: str) -> list[Found]:
        """The instant vector of a PromQL query, as of now; a scalar is one element without labels.

        Raises:
            MetricSourceError: On refused, late or malformed answers.
        """
        return await self._answer(lambda: self._look(query, datetime.now(UTC)))

    async def values(self, query: str, at: datetime) -> tuple[float, ...]:
        """See ``MetricSource.values``."""
        found = await self._answer(partial(self._look, query, at), self._for_people)
        return tuple(each.value for each in found)

    async def samples(
        self, name: str, labels: Mapping[str, str], window: timedelta, at: datetime
    ) -> tuple[Series, ...]:
        """All raw samples in ``(at - window, at]`` of the series with these labels.

        Raises:
            MetricSourceError: On refused, late or malformed answers.
        """
        query = _selector([name], {each: [value] for each, value in labels.items()}, window)
        return await self._answer(lambda: tuple(self._matrix(query, at)))

    async def history(
        self, names: Iterable[str], labels: Mapping[str, str], start: datetime, end: datetime, step: timedelta
    ) -> tuple[Series, ...]:
        """The series with these labels, as they were at ``start``, a step later, and so on until ``end``.

        Raises:
            MetricSourceError: On refused, late or malformed answers.
        """
        query = _vector(names, {each: [value] for each, value in labels.items()})

        def ask() -> tuple[Series, ...]:
            answer: list[Element] = self._client.custom_query_range(
                query, start, end, f"{step.total_seconds():.3f}", timeout=self._deadline
            )
            return tuple(map(_series, answer))

        return await self._answer(ask)

    async def _answer(self, ask: Callable[[], _A], threads: ThreadPoolExecutor | None = None) -> _A:
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.get_running_loop().run_in_executor(threads or self._threads, ask)
        except (
            TimeoutError,
            OSError,
            PrometheusApiClientException,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise MetricSourceError(f"Prometheus at {self.name} {self._what_it_did(error)}") from error

    def _what_it_did(self, error: Exception) -> str:
        match error:
            case TimeoutError() | requests.Timeout():
                did = f"did not answer within {self._deadline:g} s"
            case _UnusableAnswerError():
                did = str(error)
            case requests.exceptions.SSLError():
                did = f"cannot be reached by TLS: {_first_line(_tls_problem(error))}"
            case requests.ConnectionError():
                did = "cannot be reached"
            case PrometheusApiClientException():
                did = f"answered {_first_line(error)}"
            case requests.exceptions.InvalidURL():  # it repeats the URL, credentials included
                did = "has no valid URL"
            case CredentialsError():
                did = f"was not asked: {error}"
            case OSError() if not isinstance(error, requests.RequestException):
                did = f"was not asked: {_first_line(error)}"
            case _:
                did = f"gave no usable answer: {_first_line(error)}"
        return did

    async def close(self) -> None:
        """Let running queries go; they end by their own timeout."""
        for threads in (self._threads, self._for_people):
            threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: Question) -> tuple[Series, ...]:
        """Both queries, liveness first: a scrape that is stored between them shows in the counters alone."""
        processes = (
            self._matrix(_selector(question.processes, {}, question.window), question.at)
            if question.processes
            else []
        )
        wanted = {question.label: question.values, **_kept(question)}
        counters = self._matrix(_selector(question.names, wanted, question.window), question.at)
        if processes and _of_two_servers(processes, counters):
            raise _UnusableAnswerError(
                "is two servers that scrape at instants of their own: give each a --prometheus-url of its own, or keep "
                "to one of them (sessionAffinity: ClientIP)"
            )
        return (*processes, *counters)

    def _look(self, query: str, at: datetime) -> list[Found]:
        raw = self._query(query, at)
        elements = [each for each in raw if isinstance(each, Element)]
        if raw and not elements:  # a scalar or a string: its instant, and its text
            return [Found({}, float(each)) for each in raw[1:] if not isinstance(each, Element)]
        if any(each.values for each in elements):
            raise _UnusableAnswerError("gave ranges of values, not one at an instant")
        return [Found(each.metric, each.value[1]) for each in elements if each.value]

    def _matrix(self, query: str, at: datetime) -> list[Series]:
        return [_series(each) for each in self._query(query, at) if isinstance(each, Element)]

    def _query(self, query: str, at: datetime) -> list[Element | float | str]:
        params = {"time": f"{at.timestamp():.3f}"}
        answer: list[Element | float | str] = self._client.custom_query(
            query, params=params, timeout=self._deadline
        )
        return answer


class _UnusableAnswerError(ValueError):
    """An answer that looks whole and is not; the message says what the server did."""


class _Authorization(AuthBase):
    """Takes precedence over whatever requests finds in the environment, such as a .netrc."""

    def __init__(self, http: HttpConfig) -> None:
        self._http = http

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["Authorization"] = self._http.authorize()
        return prepared


class _Session(requests.Session):
    """What the client does not do: headers from files, the query in the body, and a look at more than the result."""

    def __init__(self, http: HttpConfig) -> None:
        super().__init__()
        self._http = http
        tls = http.tls_config
        self.verify = str(tls.ca_file) if tls.ca_file else True
        self.cert = (str(tls.cert_file), str(tls.key_file)) if tls.cert_file else None

    def request(self, method: Any, url: Any, params: Any = None, **rest: Any) -> requests.Response:  # type: ignore[override]
        """See ``requests.Session.request``.

        The query goes in the body, since hundreds of versions make a URL longer than proxies let through. A redirect
        is not followed: it would lose the body, and take the headers to another server.
        """
        rest["headers"] = {**rest["headers"], **self._http.headers()}
        sent = time.time()
        answer = super().request(method, url, data=params, allow_redirects=False, **rest)
        if answer.ok:
            _refuse_other_times(answer, sent, time.time())
            _refuse_a_part(answer)
        return _Answer(answer)


class _Answer(requests.Response):
    """A response whose JSON is an answer of Prometheus."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__()
        vars(self).update(vars(answer))

    def json(self, **_: Any) -> Body:
        """See ``requests.Response.json``."""
        return decoded(self.content)


def _refuse_other_times(answer: requests.Response, sent: float, received: float) -> None:
    """Samples carry the server's time, splits ours; only ``Date`` tells that the server's is ahead."""
    if (said := answer.headers.get("Date")) is None:
        return
    date = parsedate_to_datetime(said).timestamp()
    for seconds, words in ((date - received, "ahead of"), (sent - date - 1, "behind")):
        if seconds > MAX_SKEW_SECONDS:
            raise _UnusableAnswerError(
                f"has a clock that is {seconds:.0f} s {words} the operator's: let both be set by the same time service"
            )


def _refuse_a_part(answer: requests.Response) -> None:
    """Thanos and others answer with what they could reach, and a warning; VictoriaMetrics with a flag."""
    # Decoding twice would cost more than all the rest.
    if b'"warnings"' not in answer.content and b'"isPartial":true' not in answer.content:
        return
    body = answer.json()
    if warnings := body.get("warnings"):
        raise _UnusableAnswerError(f"gave no complete answer: {'; '.join(map(str, warnings))[:300]}")
    if body.get("isPartial"):
        raise _UnusableAnswerError("gave no complete answer: isPartial")


def _of_two_servers(processes: Iterable[Series], counters: Iterable[Series]) -> bool:
    """Whether counters were scraped, but none of them in a scrape that their processes' liveness shows."""
    scrapes, apart = Scrapes.of(processes), False
    for one in counters:
        times = scrapes.times.get(scrapes.process(one), ())
        within = [time for time, _ in one.samples if times and times[0] <= time <= times[-1]]
        if not set(within).isdisjoint(times):
            return False
        apart = apart or bool(within)
    return apart


def _kept(question: Question) -> dict[str, Iterable[str]]:
    """Labels that not every counter has. The empty alternative lets those through that do not."""
    kept: dict[str, Iterable[str]] = {name: ("", *values) for name, values in question.only}
    if question.edges is not None:
        kept[_EDGE] = ("", *(text for edge in question.edges for text in edge_texts(edge)))
    return kept


def edge_texts(edge: float) -> set[str]:
    """How an edge is written: as the router does, or as Prometheus 3 does when it stores it (``100`` and ``100.0``)."""
    return {f"{edge:.17g}", repr(edge)}


def _selector(names: Iterable[str], labels: Mapping[str, Iterable[str]], window: timedelta) -> str:
    """A PromQL range selector for all series with one of the names, and for each label one of its values."""
    return f"{_vector(names, labels)}[{max(1, round(window / timedelta(milliseconds=1)))}ms]"


def _vector(names: Iterable[str], labels: Mapping[str, Iterable[str]]) -> str:
    """The same at an instant."""
    matchers = ",".join(
        f"{label}=~{_alternatives(values)}" for label, values in {"__name__": names, **labels}.items()
    )
    return f"{{{matchers}}}"


def _alternatives(values: Iterable[str]) -> str:
    # PromQL strings escape like JSON's, and RE2 reads what re.escape writes.
    return json.dumps("|".join(re.escape(each) for each in sorted(values)))


def _series(raw: Element) -> Series:
    """One series; native histograms are no numbers of events, and its reader will say so."""
    if not raw.histograms:
        return Series(raw.metric, raw.values)
    others = [(time, math.nan) for time, _ in raw.histograms]
    return Series(raw.metric, tuple(sorted([*raw.values, *others])))


def _tls_problem(error: BaseException) -> BaseException:
    """What was wrong, below what the libraries made of it."""
    while error.__context__ is not None and not isinstance(error, ssl.SSLError):
        error = error.__context__
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
