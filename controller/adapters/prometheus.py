"""Raw counter samples from Prometheus, by prometheus-api-client."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from controller.adapters.ports import MetricSourceError, Question
from controller.core.counts import Series

_EDGE = "le"


class PrometheusSource:
    """A Prometheus server as a MetricSource.

    The client is synchronous, so queries run in a few threads of their own under a deadline of ours: a hanging server
    costs its caller the deadline and nobody else anything. It never retries: the next evaluation is the retry.
    """

    def __init__(self, url: str, *, deadline_seconds: float = 5.0, concurrency: int = 8) -> None:
        """Nothing is sent yet.

        Args:
            url: Base URL of the server.
            deadline_seconds: A later answer counts as none.
            concurrency: How many questions may be under way at once.
        """
        self.url = url.rstrip("/")
        # What is said about the server ends in status and logs, where credentials have no place.
        parts = urlsplit(self.url)
        self._name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._deadline = deadline_seconds
        self._client = PrometheusConnect(
            url=self.url,
            method="POST",
            retry=Retry(total=0),
            session=_FormSession(),
            headers={"Accept-Encoding": "identity"},  # compressing costs both sides more than these few MB
        )
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="prometheus")

    async def read(self, question: Question) -> tuple[Series, ...]:
        """See ``MetricSource.read``."""
        late = f"Prometheus at {self._name} did not answer within {self._deadline:g} s"
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, question)
        except (TimeoutError, requests.Timeout) as error:
            raise MetricSourceError(late) from error
        except requests.ConnectionError as error:
            raise MetricSourceError(f"Prometheus at {self._name} cannot be reached") from error
        except PrometheusApiClientException as error:
            raise MetricSourceError(f"Prometheus at {self._name} answered {_first_line(error)}") from error
        except (requests.RequestException, LookupError, TypeError, ValueError) as error:
            raise MetricSourceError(
                f"Prometheus at {self._name} gave no usable answer: {_first_line(error)}"
            ) from error

    async def close(self) -> None:
        """Let running queries go; they end by their own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: Question) -> tuple[Series, ...]:
        """Both queries, liveness first: a scrape that is stored between them shows in the counters alone."""
        processes = (
            self._query(_selector(question.processes, {}, question.window), question.at)
            if question.processes
            else []
        )
        wanted = {question.label: question.values, **_kept(question)}
        counters = self._query(_selector(question.names, wanted, question.window), question.at)
        return tuple(_series(one) for one in (*processes, *counters))

    def _query(self, query: str, at: datetime) -> list[dict[str, Any]]:
        params = {"time": f"{at.timestamp():.3f}"}
        answer: list[dict[str, Any]] = self._client.custom_query(query, params=params, timeout=self._deadline)
        return answer


class _FormSession(requests.Session):
    """Sends the query in the body: hundreds of versions make a URL longer than proxies let through."""

    def request(self, method: Any, url: Any, params: Any = None, **rest: Any) -> requests.Response:  # type: ignore[override]
        """See ``requests.Session.request``."""
        return super().request(method, url, data=params, **rest)


def _kept(question: Question) -> dict[str, Iterable[str]]:
    """Labels that not every counter has. The empty alternative lets those through that do not."""
    kept: dict[str, Iterable[str]] = {name: ("", *values) for name, values in question.only}
    if question.edges is not None:
        kept[_EDGE] = ("", *(text for edge in question.edges for text in _edge_texts(edge)))
    return kept


def _edge_texts(edge: float) -> set[str]:
    """How an edge is written: as the router does, or as Prometheus 3 does when it stores it (``100`` and ``100.0``)."""
    return {f"{edge:.17g}", repr(edge)}


def _selector(names: Iterable[str], labels: dict[str, Iterable[str]], window: timedelta) -> str:
    """A PromQL range selector for all series with one of the names, and for each label one of its values."""
    matchers = ",".join(
        f"{label}=~{_alternatives(values)}" for label, values in {"__name__": names, **labels}.items()
    )
    return f"{{{matchers}}}[{max(1, round(window / timedelta(milliseconds=1)))}ms]"


def _alternatives(values: Iterable[str]) -> str:
    # PromQL strings escape like JSON's, and RE2 reads what re.escape writes.
    return json.dumps("|".join(re.escape(each) for each in sorted(values)))


def _series(raw: dict[str, Any]) -> Series:
    """One series; what has no plain values (a native histogram) is no number of events, and its reader will say so."""
    values = raw.get("values") or [(0.0, math.nan)]
    return Series(raw["metric"], tuple((float(time), float(value)) for time, value in values))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
