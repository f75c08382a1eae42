"""Made-up users who talk to the agent through Envoy, in conversations, at a steady rate."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from examples.demo.observations import Answer, Observations

_QUESTIONS = (
    "Where is my order {order}?",
    "Order {order} arrived broken, I want a refund.",
    "Has order {order} left your house yet?",
    "Thank you! Can you also help with something else?",
    "And what about order {order}?",
)


@dataclass(frozen=True, slots=True)
class Habits:
    """How the users behave.

    Attributes:
        requests_per_second: All users together.
        turns: Questions in one conversation.
        pause_seconds: From an answer to the next question, on average.
        internal_share: Fraction of conversations by people who work for the shop.
        patience_seconds: After this time a user gives up.
    """

    requests_per_second: float = 180.0
    turns: int = 4
    pause_seconds: float = 0.8
    internal_share: float = 0.2
    patience_seconds: float = 10.0


class Users:
    """An open loop: new conversations begin on schedule however slow the agent is."""

    def __init__(
        self, url: str, host: str, habits: Habits, observations: Observations, seed: int = 1
    ) -> None:
        """Talk to ``url`` with ``host`` as Host header and report every answer to ``observations``."""
        self._url = f"{url}/v1/chat/completions"
        self._host = host
        self._habits = habits
        self._observations = observations
        self._random = random.Random(seed)

    async def run(self) -> None:
        """Go on until cancelled."""
        gap = self._habits.turns / self._habits.requests_per_second
        # limit=0: a user never waits for another user's connection.
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=self._habits.patience_seconds)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as conversations,
        ):
            next_start = time.monotonic()
            while True:
                conversations.create_task(self._converse(session))
                next_start += gap
                await asyncio.sleep(max(0.0, next_start - time.monotonic()))

    async def _converse(self, session: aiohttp.ClientSession) -> None:
        internal = self._random.random() < self._habits.internal_share
        conversation = uuid.UUID(int=self._random.getrandbits(128)).hex
        headers = {"host": self._host, "x-session-id": conversation}
        if internal:
            headers["x-user-group"] = "internal"
        order = self._random.randint(1000, 9999)
        messages: list[dict[str, str]] = []
        for turn in range(self._habits.turns):
            question = _QUESTIONS[turn % len(_QUESTIONS)].format(order=order)
            messages.append({"role": "user", "content": question})
            answer, text = await self._ask(session, headers, messages, conversation, internal)
            self._observations.add(answer)
            messages.append({"role": "assistant", "content": text})
            await asyncio.sleep(self._habits.pause_seconds * self._random.uniform(0.5, 1.5))

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        headers: dict[str, str],
        messages: list[dict[str, str]],
        conversation: str,
        internal: bool,
    ) -> tuple[Answer, str]:
        status, version, text = 0, "", ""
        began = time.monotonic()
        try:
            async with session.post(self._url, json={"messages": messages}, headers=headers) as response:
                body = await response.json(content_type=None)
                status, version = response.status, response.headers.get("x-agent-version", "")
                if response.ok:
                    text = body["choices"][0]["message"]["content"]
        except (aiohttp.ClientError, TimeoutError, ValueError):
            pass  # status 0 says it: the user got no answer
        seconds = time.monotonic() - began
        return Answer(datetime.now(UTC), conversation, internal, status, seconds, version), text
