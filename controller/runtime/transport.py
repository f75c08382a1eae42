"""HTTP to the Kubernetes API: configuration, credentials, JSON, typed errors.

The only module that imports the official ``kubernetes`` client. Of its asyncio part it uses the loading of
configuration and one ApiClient per process; decoding is done here, since the client's own models cost many times the
memory and time of plain JSON. aiohttp is what that ApiClient is built on and comes with it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import structlog
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from controller.runtime.errors import ApiError, Unavailable, error_from_status
from controller.runtime.lines import LineSplitter
from controller.runtime.metrics import RuntimeMetrics, private_metrics
from controller.runtime.resource import RawObject

_log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 10.0

CONNECTIONS = 32
"""At most so many to the API server, watches included: each takes 0.3 MiB here, and a server of two cores no more."""

Query = Mapping[str, str]


class Transport(Protocol):
    """What `controller.runtime.client` needs of a connection to an API server."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: RawObject | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float,
    ) -> RawObject:
        """The decoded answer of one request.

        Raises:
            ApiError: The typed refusal, or Unavailable after ``timeout`` seconds or on a broken connection.
        """

    def stream(
        self, path: str, *, query: Query, accept: str = "application/json", timeout: float
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an endless GET, for at most ``timeout`` seconds.

        Raises:
            ApiError: As for `request`; a stream that the server ends cleanly just ends.
        """


class KubernetesTransport:
    """The connection of this process to one API server; make it with `connect`."""

    def __init__(self, loader: ConfigurationLoader, client: ApiClient, metrics: RuntimeMetrics) -> None:
        self._loader = loader
        self._client = client
        self._metrics = metrics

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        user_agent: str = "agentrollout",
        metrics: RuntimeMetrics | None = None,
    ) -> KubernetesTransport:
        """Load configuration and credentials; nothing is sent yet.

        Precedence: ``kubeconfig``, the environment's KUBECONFIG, the service account of the pod, ``~/.kube/config``.
        A ``context`` always means a kubeconfig.

        Raises:
            ConfigurationError: There is no usable configuration; the message says what was tried.
        """
        loader = ConfigurationLoader(kubeconfig, context)
        client = ApiClient(configuration=await loader.load())
        client.user_agent = user_agent
        return cls(loader, client, metrics or private_metrics())

    @property
    def host(self) -> str:
        """URL of the API server."""
        return str(self._client.configuration.host)

    @property
    def namespace(self) -> str:
        """The namespace that the kubeconfig's context names; ``""`` if it names none."""
        return self._loader.namespace

    async def close(self) -> None:
        """Close all connections; running requests fail with Unavailable."""
        await self._client.close()  # type: ignore[no-untyped-call]  # the client is typed in places only

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: RawObject | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float,
    ) -> RawObject:
        """See `Transport.request`."""
        asked = f"{method} {path}"
        deadline = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_SECONDS)
        with _network_errors(asked):
            async with self._response(
                method, path, query or {}, body, (content_type, accept), deadline
            ) as response:
                return _decode(await response.read(), asked)

    async def stream(
        self, path: str, *, query: Query, accept: str = "application/json", timeout: float
    ) -> AsyncGenerator[bytes, None]:
        """See `Transport.stream`."""
        deadline = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_SECONDS)
        splitter = LineSplitter()
        with _network_errors(f"GET {path}"):
            async with self._response(
                "GET", path, query, None, ("application/json", accept), deadline
            ) as response:
                async for chunk in response.content.iter_any():
                    for line in splitter.feed(chunk):
                        yield line

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        query: Query,
        body: RawObject | None,
        types: tuple[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response, closed afterwards; after a 401 the credentials are read anew, once."""
        response = await self._send(method, path, query, body, types, timeout)
        if response.status == 401:
            response.close()
            await self._renew_credentials()
            response = await self._send(method, path, query, body, types, timeout)
        try:
            if response.status >= 400:
                raise await _refusal(response, f"{method} {path}")
            yield response
        finally:
            # An unread rest would keep the connection from the pool; after a complete read this does nothing. It is cut,
            # not closed: of TLS the goodbye would outlast whoever closes the event loop next.
            connection = response.connection.transport if response.connection else None
            response.close()
            if connection is not None:
                connection.abort()

    async def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: RawObject | None,
        types: tuple[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Content-Type": types[0], "Accept": types[1]},
            body=body,
            auth_settings=["BearerToken"],
        )
        # The client documents one number only, which would be one deadline for connecting and streaming alike. It hands
        # the value to aiohttp unseen.
        code, began = "<error>", time.monotonic()
        try:
            answer = await self._client.call_api(*request, _request_timeout=timeout)
            code = str(answer.status)
        finally:
            self._metrics.requests.labels(code=code, method=method, host=self.host).inc()
            took = time.monotonic() - began
            self._metrics.request_seconds.labels(verb=method, host=self.host).observe(took)
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _renew_credentials(self) -> None:
        """Take over new tokens (a rotated token file, an expired exec credential) without losing connections."""
        try:
            fresh = await self._loader.load()
        except ConfigurationError as error:
            _log.warning("credentials_not_renewed", error=str(error))
            return
        current = self._client.configuration
        current.api_key, current.refresh_api_key_hook = fresh.api_key, fresh.refresh_api_key_hook


class ConfigurationError(Exception):
    """No usable configuration for the Kubernetes API; the message says what was tried."""


class ConfigurationLoader:
    """Knows where this process finds its API server and credentials, and can read them again."""

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        self._kubeconfig = kubeconfig or os.environ.get("KUBECONFIG") or None
        self._context = context
        self.namespace = ""
        """What the context names as its namespace; known once it was loaded."""

    @property
    def _path(self) -> str:
        return self._kubeconfig or "~/.kube/config"

    def _is_there(self) -> bool:
        """Of several files, as in KUBECONFIG, those that are not there are passed over."""
        return any(Path(path).expanduser().exists() for path in self._path.split(os.pathsep))

    async def load(self) -> Any:
        """A fresh client configuration.

        Raises:
            ConfigurationError: There is none, or it cannot be used.
        """
        configuration = Configuration()
        # Without these the client would retry by itself, hiding from the callers' backoff what the server said.
        configuration.retries = None
        configuration.client_go_retries = False
        # Left to itself aiohttp looks for proxies and a netrc at every request, in a thread each time; and a password
        # of the netrc would stand against the token.
        configuration.client_session_kwargs = {"trust_env": False}
        configuration.connection_pool_maxsize = CONNECTIONS
        in_cluster = (
            self._kubeconfig is None and self._context is None and "KUBERNETES_SERVICE_HOST" in os.environ
        )
        if not in_cluster and not self._is_there():
            raise ConfigurationError(
                f"there is no kubeconfig {self._path}: name one by --kubeconfig or $KUBECONFIG"
            )
        tried = "the pod's service account" if in_cluster else f"kubeconfig {self._path}"
        try:
            if in_cluster:
                kube_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            else:
                loaded = await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=self._kubeconfig,
                    context=self._context,
                    client_configuration=configuration,
                    persist_config=False,
                )
                self.namespace = str(loaded.current_context["context"].get("namespace") or "")
        except (kube_config.ConfigException, OSError, ValueError) as error:
            raise ConfigurationError(f"no usable Kubernetes configuration in {tried}: {error}") from error
        configuration.proxy = configuration.proxy or _environment_proxy(configuration.host)
        return configuration


def _environment_proxy(url: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY ask for; kubectl heeds them too."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


@contextmanager
def _network_errors(asked: str) -> Iterator[None]:
    """Turn what aiohttp raises into Unavailable."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"{asked}: no answer within the deadline", reason="Timeout") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(
            f"{asked}: {str(error) or type(error).__name__}", reason="ConnectionFailed"
        ) from error


def _decode(content: bytes, asked: str) -> RawObject:
    try:
        decoded = json.loads(content)
    except ValueError as error:
        raise Unavailable(f"{asked}: the answer is not JSON: {content[:100]!r}", reason="NotJSON") from error
    if not isinstance(decoded, dict):
        raise Unavailable(f"{asked}: the answer is not a JSON object", reason="NotJSON")
    return decoded


async def _refusal(response: aiohttp.ClientResponse, asked: str) -> ApiError:
    content = await response.read()
    try:
        status = json.loads(content)
    except ValueError:
        # Proxies and overloaded servers answer in plain text.
        status = {"message": content[:300].decode(errors="replace").strip()}
    if not isinstance(status, dict):
        status = {}
    retry_after = response.headers.get("Retry-After", "")
    seconds = float(retry_after) if retry_after.isdecimal() else None
    return error_from_status(response.status, status, request=asked, retry_after=seconds)
