"""Ends an Envoy's work before the Envoy itself: no new users, and time for the answers under way."""

from __future__ import annotations

import asyncio

import httpx

from controller.adapters.envoy.listener import LISTENER_NAME

_ANSWER_SECONDS = 5.0
_POLL_SECONDS = 0.2

SETTLE_SECONDS = 5.0
"""So long users are still sent here by whoever has not heard yet that this Envoy is not ready."""

_UNDER_WAY = f"http.{LISTENER_NAME}.downstream_rq_active"


class DrainError(Exception):
    """The Envoy's admin interface does not answer as it should; the message says how."""


async def drain(admin: str, timeout: float, *, settle: float = SETTLE_SECONDS) -> int:
    """Take no more users and wait for the answers under way.

    A failed health check makes Envoy unready, and has it end each connection after its answer (``connection: close``,
    GOAWAY), while it goes on to take what still arrives.

    Args:
        admin: Host and port of the admin interface.
        timeout: Seconds after which it returns in any case.
        settle: Seconds that it waits at least, within ``timeout``.

    Returns:
        How many requests are still under way.

    Raises:
        DrainError: The admin interface is not there, or does not know these requests.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with httpx.AsyncClient(
            base_url=f"http://{admin}", trust_env=False, timeout=_ANSWER_SECONDS
        ) as client:
            (await client.post("/healthcheck/fail")).raise_for_status()
            while True:
                under_way = await _under_way(client)
                passed = loop.time() - began
                if passed >= timeout or (not under_way and passed >= settle):
                    return under_way
                await asyncio.sleep(_POLL_SECONDS)
    except httpx.HTTPError as error:
        raise DrainError(
            f"the admin interface at {admin} does not answer: {str(error) or type(error).__name__}"
        ) from error


async def _under_way(client: httpx.AsyncClient) -> int:
    answer = await client.get("/stats", params={"filter": f"^{_UNDER_WAY}$"})
    answer.raise_for_status()
    # Without a listener there is no such counter: nobody was ever served.
    return int(answer.text.partition(":")[2] or 0)
