"""gRPC through a real Envoy to real gRPC servers, and which counters move for what: the second table in
controller/adapters/envoy/metrics.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx

from controller.core.traffic import Backend
from devkit.process import LOOPBACK, free_port
from tests.integration.certificates import Authority
from tests.integration.envoy_lab import HOST, Lab, backend, eventually, table
from tests.integration.http2_lab import Http2Agent
from tests.integration.test_envoy_counters import (
    GOOD,
    IDLE,
    USER_LEFT_EARLY,
    USER_LEFT_LATER,
    Ask,
    Counted,
    check,
    counts,
    full_port,
    outcome,
)

FAILED_CALL = outcome("1/2", "0/1")
LOST = outcome("3/3", "1/1")
BROKE_LATER = outcome("1/2", "1/1")
REFUSED = outcome("2/2", "0/0")


def http2(name: str, port: int, host: str = LOOPBACK, *, tls: bool = False) -> Backend:
    return replace(backend(name, port, host, tls=tls), http2=True)


def call(
    name: str, *, give_up: float = 0, slow_upload: bool = False, content_type: str = "application/grpc"
) -> Ask:
    """One call on a connection of its own, by a client that takes what no gRPC client would."""

    async def upload() -> AsyncIterator[bytes]:
        yield b"\0\0\0"
        await asyncio.sleep(0.5 if slow_upload else 0)

    async def ask(port: int) -> None:
        async with httpx.AsyncClient(http1=False, http2=True, timeout=20) as client:
            with contextlib.suppress(TimeoutError, httpx.RemoteProtocolError):
                async with asyncio.timeout(give_up or 20):
                    await client.post(
                        f"http://{LOOPBACK}:{port}/shop.Agent/{name}",
                        headers={"host": HOST, "content-type": content_type, "te": "trailers"},
                        content=upload(),
                    )

    return ask


class Answers:
    """A gRPC service whose calls end as it is told."""

    def __init__(self, fails: grpc.StatusCode | None = None, *, hangs: bool = False) -> None:
        self.fails = fails
        self.hangs = hangs
        self.calls = 0
        self.artifact = ""

    async def ask(self, request: bytes, context: Any) -> bytes:
        await self._begin(context)
        context.set_trailing_metadata((("tokens", "7"),))
        return request[::-1]

    async def tell(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._begin(context)
        for letter in request:
            yield bytes([letter])
        context.set_trailing_metadata((("tokens", "7"),))

    async def _begin(self, context: Any) -> None:
        self.calls += 1
        self.artifact = dict(context.invocation_metadata())["x-agentrollout-artifact"]
        if self.hangs:
            await asyncio.sleep(30)
        if self.fails is not None:
            await context.abort(self.fails, "as told")


@contextlib.asynccontextmanager
async def serving(
    answers: Answers, certificate: tuple[Path, Path] | None = None, **options: int
) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[(f"grpc.{name}", value) for name, value in options.items()])
    handlers = {
        "Ask": grpc.unary_unary_rpc_method_handler(answers.ask),
        "Tell": grpc.unary_stream_rpc_method_handler(answers.tell),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Agent", handlers),))
    if certificate is None:
        port = server.add_insecure_port(f"{LOOPBACK}:0")
    else:
        chain, key = (path.read_bytes() for path in certificate)
        port = server.add_secure_port(f"{LOOPBACK}:0", grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def channel(lab: Lab) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        f"{LOOPBACK}:{lab.user_port}", options=[("grpc.default_authority", HOST), ("grpc.enable_retries", 0)]
    )


async def passes(lab: Lab) -> None:
    """A call and a stream of answers get through, with what gRPC says at their ends."""
    async with channel(lab) as users:
        one = users.unary_unary("/shop.Agent/Ask")(b"abc")
        assert await one == b"cba"
        assert dict(await one.trailing_metadata())["tokens"] == "7"
        many = users.unary_stream("/shop.Agent/Tell")(b"abc")
        assert [each async for each in many] == [b"a", b"b", b"c"]
        assert dict(await many.trailing_metadata())["tokens"] == "7"
        assert await many.code() is grpc.StatusCode.OK


async def test_calls_and_streams_reach_a_grpc_server_with_their_trailers() -> None:
    answers = Answers()
    async with serving(answers) as port, Lab() as lab:
        await lab.start(table(http2("only", port)))
        await passes(lab)
    assert answers.artifact == "sha256:only"


async def test_a_grpc_server_behind_tls_is_spoken_to_by_alpn(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    options = {"ca_file": str(authority.file)}
    async with serving(Answers(), authority.issue("localhost")) as port, Lab(options) as lab:
        await lab.start(table(http2("only", port, "localhost", tls=True)))
        await passes(lab)


async def test_each_outcome_is_counted_as_the_table_says() -> None:
    cases: list[tuple[str, Ask, Counted]] = [
        ("OK", call("answer"), GOOD),
        ("NOT_FOUND", call("status-5"), GOOD),
        ("RESOURCE_EXHAUSTED", call("only-8"), GOOD),
        *((f"status {status}", call(f"status-{status}"), FAILED_CALL) for status in (2, 4, 12, 13, 14, 15)),
        ("UNAVAILABLE at once", call("only-14"), FAILED_CALL),
        ("503 without a status", call("http-503"), outcome("1/1", "0/1")),
        ("503, no gRPC", call("http-503", content_type="text/plain"), outcome("1/1", "0/1")),
        ("103 before the answer", call("hints"), outcome("0/2", "0/1")),
        ("reset before the headers", call("reset-before-headers"), LOST),
        (
            "the same, no gRPC",
            call("reset-before-headers", content_type="text/plain"),
            outcome("2/2", "1/1"),
        ),
        ("reset in the body", call("reset-in-body"), BROKE_LATER),
        ("stream refused", call("refuse"), REFUSED),
        ("sent away", call("send-away"), REFUSED),
        ("cut before the headers", call("cut-before-headers"), LOST),
        ("cut in the body", call("cut-in-body"), BROKE_LATER),
        ("not HTTP/2", call("garbage"), outcome("2/2", "1/1")),
        ("not HTTP/2 in the body", call("garbage-in-body"), USER_LEFT_LATER),
        ("answer before the end of the upload", call("early-answer", slow_upload=True), USER_LEFT_LATER),
        ("user left before the headers", call("silent-before-headers", give_up=0.2), USER_LEFT_EARLY),
        ("user left in the body", call("silent-in-body", give_up=0.2), USER_LEFT_LATER),
    ]
    async with Http2Agent() as agent, Lab() as lab:
        await lab.start(table(http2("only", agent.port)))
        for what, ask, expected in cases:
            await check(lab, ask, expected, what, times=1)


async def test_silence_is_an_error() -> None:
    async with Http2Agent() as agent, Lab({"idle_timeout": IDLE}) as lab:
        await lab.start(table(http2("only", agent.port)))
        await check(lab, call("silent-before-headers"), LOST, times=1)
        await check(lab, call("silent-in-body"), BROKE_LATER, times=1)


async def test_an_agent_that_cannot_be_reached_is_bad_and_slow() -> None:
    async with Lab({"connect_timeout": timedelta(seconds=1)}) as lab:
        await lab.start(table(http2("only", free_port())))
        await check(lab, call("answer"), LOST, "refused")
        with full_port() as port:
            await lab.publish(table(http2("only", port)))
            await check(lab, call("answer"), LOST, "late", times=1)
            await check(lab, call("answer", give_up=0.3), USER_LEFT_EARLY, "user left", times=1)


async def test_what_the_circuit_breaker_refuses_is_bad() -> None:
    async with Http2Agent() as agent, Lab({"max_requests": 1}) as lab:
        await lab.start(table(http2("only", agent.port)))
        name = "cluster.shop/agent/only~h2.upstream_rq_active"

        async def active() -> int:
            return (await lab.counters(name)).get(name, 0)

        busy = asyncio.ensure_future(call("silent-before-headers")(lab.user_port))
        assert await eventually(active, (1).__eq__) == 1
        await check(lab, call("answer"), REFUSED)
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)


async def test_each_request_of_a_broken_connection_is_counted() -> None:
    others = 4
    async with Http2Agent() as agent, Lab() as lab:
        await lab.start(table(http2("only", agent.port)))

        async def crash(port: int) -> None:
            waiting = [asyncio.ensure_future(call("silent-in-body")(port)) for _ in range(others)]

            async def answered() -> float:
                return (await counts(lab))["total"]

            assert await eventually(answered, float(others).__eq__) == others
            await asyncio.gather(call("cut-in-body")(port), *waiting)

        broken = 1 + others
        await check(
            lab, crash, outcome(f"{broken}/{2 * broken}", f"{broken}/{broken}"), "one connection", times=1
        )


async def test_a_server_that_renews_its_connections_makes_no_errors() -> None:
    calls = 200
    async with serving(Answers(), max_connection_age_ms=100) as port, Lab() as lab:
        await lab.start(table(http2("only", port)))
        async with channel(lab) as users:
            for number in range(calls):
                assert await users.unary_unary("/shop.Agent/Ask")(b"ab") == b"ba", number
        closed = await lab.counters("cluster.shop/agent/only~h2.upstream_cx")
        expected = {"total": calls, "bad": 0, "latency total": calls, "latency bad": 0}
        assert await eventually(lambda: counts(lab), expected.__eq__) == expected
    assert "cluster.shop/agent/only~h2.upstream_cx_protocol_error" not in closed


async def test_failing_calls_and_a_hung_server_are_seen_in_their_arm_alone() -> None:
    users = 60
    good, failing, hung = Answers(), Answers(grpc.StatusCode.INTERNAL), Answers(hangs=True)
    async with serving(good) as stable, serving(failing) as broken, serving(hung) as silent, Lab() as lab:
        split = table(http2("stable", stable), http2("broken", broken), 500_000)
        await lab.start(split)
        async with channel(lab) as callers:
            ask = callers.unary_unary("/shop.Agent/Ask")

            async def everyone(patience: float) -> None:
                sessions = [(("x-session-id", f"user-{number}"),) for number in range(users)]
                calls = [asyncio.wait_for(ask(b"abc", metadata=each), patience) for each in sessions]
                await asyncio.gather(*calls, return_exceptions=True)

            await everyone(10)

            async def seen(name: str) -> Counted:
                return await counts(lab, f"shop/agent/{name}")

            served = {"total": good.calls, "bad": 0, "latency total": good.calls, "latency bad": 0}
            assert await eventually(lambda: seen("stable"), served.__eq__) == served
            bad = await seen("broken")
            assert (bad["bad"], bad["total"]) == (failing.calls, 2 * failing.calls)

            await lab.publish(replace(split, candidate=http2("hung", silent)))
            await everyone(0.5)
            slow = await eventually(lambda: seen("hung"), lambda now: now["latency total"] == hung.calls)

    assert min(good.calls, failing.calls, hung.calls) > users / 4
    assert (slow["latency bad"], slow["latency total"]) == (hung.calls, hung.calls)


async def test_calls_pass_through_the_tunnel_of_a_candidate_that_can_be_cut_and_are_cut_with_it() -> None:
    hung = Answers(hangs=True)
    async with serving(Answers()) as stable, serving(Answers()) as good, serving(hung) as bad, Lab() as lab:
        lab.drain_seconds = 0
        split = replace(
            table(http2("stable", stable), http2("good", good), 1_000_000),
            cut_on_rollback=True,
        )
        await lab.start(split)
        await passes(lab)
        served = await eventually(
            lambda: counts(lab, "shop/agent/good"), lambda now: now["latency total"] == 2
        )
        assert served == {"total": 2, "bad": 0, "latency total": 2, "latency bad": 0}

        split = replace(split, candidate=http2("bad", bad))
        await lab.publish(split)
        async with channel(lab) as users:
            waiting = [asyncio.ensure_future(users.unary_unary("/shop.Agent/Ask")(b"abc")) for _ in range(3)]

            async def begun() -> int:
                return hung.calls

            assert await eventually(begun, (3).__eq__) == 3
            await lab.publish(split.without_candidate())
            ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
        codes = [end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)]
        assert codes == [grpc.StatusCode.UNAVAILABLE] * 3
        await passes(lab)
