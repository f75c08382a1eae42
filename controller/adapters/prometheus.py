"""Raw counter samples from Prometheus, by prometheus-api-client."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from controller.adapters.ports import MetricSourceError
from controller.core.counts import Series


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
            concurrency: How many queries may run at once.
        """
        self.url = url.rstrip("/")
        # What is said about the server ends in status and logs, where credentials have no place.
        parts = urlsplit(self.url)
        self._name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._deadline = deadline_seconds
        self._client = PrometheusConnect(url=self.url, method="POST", retry=Retry(total=0))
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="prometheus")

    async def read(
        self, names: Iterable[str], *, label: str, values: Iterable[str], window_seconds: float, at: datetime
    ) -> tuple[Series, ...]:
        """See ``MetricSource.read``."""
        query = range_selector(names, label=label, values=values, window_seconds=window_seconds)
        try:
            async with asyncio.timeout(self._deadline):
                answer = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._query, query, at
                )
            return tuple(_series(one) for one in answer)
        except TimeoutError as error:
            raise MetricSourceError(
                f"Prometheus at {self._name} did not answer within {self._deadline:g} s"
            ) from error
        except requests.Timeout as error:
            raise MetricSourceError(
                f"Prometheus at {self._name} did not answer within {self._deadline:g} s"
            ) from error
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

    def _query(self, query: str, at: datetime) -> list[dict[str, Any]]:
        params = {"time": f"{at.timestamp():.3f}"}
        answer: list[dict[str, Any]] = self._client.custom_query(query, params=params, timeout=self._deadline)
        return answer


def range_selector(names: Iterable[str], *, label: str, values: Iterable[str], window_seconds: float) -> str:
    """One PromQL range selector for all the series, so that they are read at one instant.

    The empty alternative lets series without the label through.
    """
    # PromQL strings escape like JSON's, and RE2 reads what re.escape writes.
    name = json.dumps("|".join(re.escape(each) for each in sorted(names)))
    value = json.dumps("|".join(["", *(re.escape(each) for each in sorted(values))]))
    return f"{{__name__=~{name},{label}=~{value}}}[{max(1, round(window_seconds * 1000))}ms]"


def _series(raw: dict[str, Any]) -> Series:
    return Series(raw["metric"], tuple((float(time), float(value)) for time, value in raw["values"]))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
