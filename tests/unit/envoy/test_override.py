"""What a router's answer to an order of break-glass becomes, where the real one cannot be told when to give it."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest

from controller.adapters.envoy.override import Credentials, Overrides


@pytest.fixture
def overrides(monkeypatch: pytest.MonkeyPatch) -> Overrides:
    monkeypatch.setattr("controller.adapters.envoy.override._context", lambda _: ssl.create_default_context())
    return Overrides(("https://router:9902",), Credentials("person.crt", "person.key", "routers.crt", ""))


async def test_a_certificate_that_is_refused_after_the_handshake_is_a_sentence(
    overrides: Overrides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS 1.3 the refusal comes with the first read, where httpx lets it through as it is."""

    async def post(*_: Any, **__: Any) -> httpx.Response:
        raise ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")

    monkeypatch.setattr(httpx.AsyncClient, "post", post)
    (answer,) = await overrides.set("shop/agent")
    assert "certificate required" in answer.problem
