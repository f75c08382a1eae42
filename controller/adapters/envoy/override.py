"""Break-glass from outside: tells routers, one by one and without any operator, to send everyone to stable."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from controller.adapters.envoy.doors import RUNTIME_PATH
from controller.adapters.envoy.naming import override_key

_DEADLINE_SECONDS = 5.0
_RELEASED, _STABLE_ONLY = "", "100"


class CredentialsError(Exception):
    """A certificate, key or CA cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks, and whom they trust; paths of PEM files.

    Attributes:
        cert_file: The caller's certificate chain.
        key_file: The certificate's key.
        ca_file: Who signed the routers' certificates.
        server_name: The name that the routers' certificates have; empty: the host of each router's URL.
    """

    cert_file: str
    key_file: str
    ca_file: str
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one router.

    Attributes:
        router: Its URL.
        problem: Why it did not take the order; empty if it did.
    """

    router: str
    problem: str = ""


class Overrides:
    """Sets and releases the override of rollouts on a set of routers."""

    def __init__(self, routers: Sequence[str], credentials: Credentials) -> None:
        """Read the credentials.

        Raises:
            CredentialsError: If a file is missing, is no PEM, or certificate and key do not belong together.
        """
        self._routers = tuple(routers)
        self._server_name = credentials.server_name
        self._tls = _context(credentials)

    async def set(self, key: str) -> tuple[Answer, ...]:
        """Send all users of the rollout ``namespace/name`` to stable, whatever its split says; idempotent."""
        return await self._everywhere(key, _STABLE_ONLY)

    async def release(self, key: str) -> tuple[Answer, ...]:
        """Let the split of the rollout hold again; idempotent."""
        return await self._everywhere(key, _RELEASED)

    async def _everywhere(self, key: str, value: str) -> tuple[Answer, ...]:
        async with httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=_DEADLINE_SECONDS) as client:
            return tuple(
                await asyncio.gather(*(self._order(client, router, key, value) for router in self._routers))
            )

    async def _order(self, client: httpx.AsyncClient, router: str, key: str, value: str) -> Answer:
        extensions = {"sni_hostname": self._server_name or urlsplit(router).hostname}
        try:
            # httpx limits each step; a person waits for all of them.
            async with asyncio.timeout(_DEADLINE_SECONDS):
                response = await client.post(
                    f"{router.rstrip('/')}{RUNTIME_PATH}?{override_key(key)}={value}", extensions=extensions
                )
        except TimeoutError:
            return Answer(router, f"no answer within {_DEADLINE_SECONDS:g} s")
        except (httpx.HTTPError, ssl.SSLError) as error:  # a refused certificate can be either
            return Answer(router, str(error) or type(error).__name__)
        if response.status_code != httpx.codes.OK:
            return Answer(
                router, f"answered {response.status_code}: is this the address of its --break-glass-address?"
            )
        return Answer(router)


def _context(credentials: Credentials) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=credentials.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CredentialsError(f"{credentials.ca_file} cannot be used as CA: {error}") from error
    try:
        context.load_cert_chain(credentials.cert_file, credentials.key_file)
    except (OSError, ssl.SSLError) as error:
        raise CredentialsError(
            f"{credentials.cert_file} and {credentials.key_file} cannot be used as certificate and key: {error}"
        ) from error
    return context
