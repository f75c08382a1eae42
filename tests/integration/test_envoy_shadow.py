"""Shadow mode through a real Envoy: what is mirrored and captured, and that users do not feel it."""

from __future__ import annotations

import asyncio
import io
import math
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controller.adapters.envoy.bootstrap import bootstrap
from controller.adapters.envoy.capture import CaptureLimits
from controller.core.shadow.comparison import Bin, without_judge
from controller.core.shadow.exchange import Side
from controller.core.shadow.pairing import Ended
from controller.core.traffic import CONTROL_SLICES
from devkit.process import LOOPBACK, free_port
from tests.integration import envoy_lab
from tests.integration.certificates import Authority
from tests.integration.envoy_lab import HOST, Agent, backend
from tests.integration.shadow_lab import (
    KEY,
    MEBIBYTE,
    SAMPLED,
    SUBJECT,
    Recorder,
    ShadowLab,
    eventually_true,
    shadow_lab,
)
from tests.integration.test_envoy_grpc import Answers, channel, http2, serving

REQUESTS = int(os.environ.get("SHADOW_REQUESTS", "300"))
PER_SECOND = 200


async def total(lab: ShadowLab, cluster: str) -> int:
    """Requests that a cluster of the rollout got."""
    name = f"cluster.{KEY}/{cluster}.upstream_rq_total"
    return (await lab.lab.counters(re.escape(name) + "$")).get(name, 0)


async def test_a_pair_is_what_both_versions_were_asked_and_answered() -> None:
    async with shadow_lab() as lab:
        assert await lab.ask("/echo?q=1", b"Hello", content_type="text/plain") == (200, b"stable says Hello")
        pair = await lab.recorder.pair()

    assert (pair.side, pair.subject) == (Side.CANDIDATE, SUBJECT)
    assert (pair.question.method, pair.question.path, pair.question.body) == ("POST", "/echo?q=1", b"Hello")
    assert (pair.stable.status, pair.stable.body) == (200, b"stable says Hello")
    assert (pair.other.status, pair.other.body) == (200, b"candidate says Hello")
    assert pair.stable.complete
    assert pair.other.complete
    assert ("content-type", "text/plain") in pair.question.headers


@pytest.mark.parametrize("size", [0, 1, 70_000, MEBIBYTE])
async def test_bodies_up_to_a_mebibyte_are_compared_whole(size: int) -> None:
    body = os.urandom(size)
    async with shadow_lab(limits=CaptureLimits(body_bytes=MEBIBYTE + 100)) as lab:
        assert await lab.ask("/echo", body) == (200, b"stable says " + body)
        echoed = await lab.recorder.pair()
        assert (await lab.ask(f"/bytes/{size}"))[1] == b"s" * size
        sent = await lab.recorder.pair()

    assert echoed.question.body == body
    assert (echoed.stable.body, echoed.other.body) == (b"stable says " + body, b"candidate says " + body)
    assert (sent.stable.body, sent.other.body) == (b"s" * size, b"c" * size)


async def test_streamed_answers_are_compared_whole_and_packed_ones_unpacked() -> None:
    async with shadow_lab() as lab:
        _, events = await lab.ask("/events/50")
        streamed = await lab.recorder.pair()
        await lab.ask("/gzip", b"Hello")
        packed = await lab.recorder.pair()

    assert events == streamed.stable.body == b"".join(b"data: stable %d\n\n" % n for n in range(50))
    assert streamed.other.body == events.replace(b"stable", b"candidate")
    assert (packed.stable.body, packed.other.body) == (b"stable says Hello", b"candidate says Hello")


async def test_mirrors_have_no_credentials_and_say_what_they_are() -> None:
    secrets = {
        name: f"secret-{name}"
        for name in (
            *("authorization", "cookie", "proxy-authorization", "x-api-key", "x-goog-api-key", "apikey"),
            *(
                "x-auth-token",
                "x-amz-security-token",
                "x-csrf-token",
                "x-forwarded-client-cert",
                "x-jwt-assertion",
            ),
            *("x-ms-client-principal", "x-amzn-oidc-data", "x-functions-key", "x-session", "x-accesstoken"),
            *("x-tenant", "X-Agentrollout-Pair"),
        )
    }
    harmless = {"x-max-tokens": "100", "user-agent": "someone", "x-agentrollout-shadow": "no"}
    async with shadow_lab(sampled_ppm=500_000, noise_ppm=500_000, removed_headers=("x-tenant",)) as lab:
        await lab.ask("/echo", b"Hello", **secrets, **harmless)
        await lab.recorder.until(lambda each: len(each.pairs) == 2)
        asked, _ = sorted(lab.stable.asked, key=lambda each: "x-agentrollout-shadow" in each)
        mirrored = {"candidate": lab.candidate.asked[0], "stable": _}

    assert asked["authorization"] == "secret-authorization"
    assert asked["x-tenant"] == "secret-x-tenant"
    assert not [name for name in asked if name in ("x-agentrollout-shadow", "x-agentrollout-pair")]
    for name, headers in mirrored.items():
        assert not [value for value in headers.values() if value.startswith("secret")]
        assert headers["x-agentrollout-shadow"] == "1"
        assert headers["x-agentrollout-artifact"] == f"sha256:{name}"
        assert headers["x-agentrollout-pair"] == lab.recorder.exchanges[0].pair
        assert headers["host"] == HOST
        assert headers["x-max-tokens"] == "100"
        assert headers["x-session-id"] == asked["x-session-id"]
        assert "x-envoy-internal" not in headers
    assert "secret" not in repr(lab.recorder.exchanges)


async def test_the_noise_arm_asks_stable_a_second_time() -> None:
    async with shadow_lab(sampled_ppm=500_000, noise_ppm=500_000) as lab:
        await lab.ask("/echo", b"Hello")
        await lab.recorder.until(lambda each: len(each.pairs) == 2)
        pairs = {each.side: each for each in lab.recorder.pairs}

    assert pairs[Side.NOISE].other.body == b"stable says Hello"
    assert pairs[Side.CANDIDATE].other.body == b"candidate says Hello"
    assert pairs[Side.NOISE].id == f"{pairs[Side.CANDIDATE].id}/noise"


async def test_a_candidate_that_fails_loses_and_a_stable_that_fails_too_says_nothing() -> None:
    async with shadow_lab(timeout=timedelta(seconds=1)) as lab:
        await lab.ask("/status/503")
        assert without_judge(await lab.recorder.pair()) is Bin.BOTH_ERROR
        port = lab.candidate.port
        async with Agent("candidate", always="/silent-in-body/close") as silent:
            await lab.lab.publish(_elsewhere(lab, silent.port))
            assert await lab.ask("/echo") == (200, b"stable says ")
            slow = await lab.recorder.pair()
        await lab.lab.publish(_elsewhere(lab, free_port()))
        assert await lab.ask("/echo") == (200, b"stable says ")
        absent = await lab.recorder.pair()
        await lab.lab.publish(_elsewhere(lab, port))
        with pytest.raises(aiohttp.ClientError):
            await lab.ask("/break")
        broken = await lab.recorder.pair()

    assert without_judge(slow) is Bin.LOSS
    assert slow.other.status == 200
    assert without_judge(absent) is Bin.LOSS
    assert without_judge(broken) is Bin.BOTH_ERROR


def _elsewhere(lab: ShadowLab, port: int):  # type: ignore[no-untyped-def]
    moved = lab.table(timeout=timedelta(seconds=1))
    assert moved.candidate is not None
    return replace(moved, candidate=replace(moved.candidate, port=port))


async def test_what_is_too_large_to_be_kept_ends_as_such_and_its_user_has_it_all() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield bytes(MEBIBYTE // 8)

    async with shadow_lab(timeout=timedelta(seconds=2)) as lab:
        declared = await lab.ask("/echo", io.BytesIO(bytes(MEBIBYTE + 1)))
        assert len(declared[1]) == MEBIBYTE + 1 + len(b"stable says ")
        assert await total(lab, "stable~sampled-unmirrored") == 1
        assert len((await lab.ask("/echo", chunks()))[1]) == 4 * MEBIBYTE + len(b"stable says ")
        assert len((await lab.ask(f"/bytes/{2 * MEBIBYTE}"))[1]) == 2 * MEBIBYTE
        await lab.recorder.until(lambda each: len(each.ends) == 2)

        assert lab.recorder.bins == {(Side.CANDIDATE, "too_large"): 2}
        # The mirror of the upload was given up, not passed on in part.
        assert len(lab.candidate.asked) == 1


async def test_what_is_no_single_request_is_not_mirrored() -> None:
    async with shadow_lab() as lab:
        await lab.ask("/echo", connection="Upgrade", upgrade="websocket")
        assert await total(lab, "stable~sampled-unmirrored") == 1
        assert lab.candidate.asked == []


async def test_sampled_conversations_are_no_evidence_and_shares_are_exact() -> None:
    conversations = [f"conversation-{number}" for number in range(REQUESTS)]
    async with shadow_lab(sampled_ppm=200_000, noise_ppm=50_000) as lab:
        wanted = replace(lab.table(sampled_ppm=200_000, noise_ppm=50_000), weight_ppm=50_000)
        await lab.lab.publish(wanted)
        for each in conversations:
            assert (await lab.ask("/echo", x_session_id=each))[0] == 200
        page = await lab.lab.metrics()
        found = Counter[str]()
        for name, number in re.findall(
            r'^envoy_cluster_upstream_rq_completed\{.*?envoy_cluster_name="([^"]*)".*\} (\d+)$',
            page,
            re.MULTILINE,
        ):
            found[name.removeprefix(f"{KEY}/")] += int(number)

    sampled = found["stable~sampled"] + found["stable~sampled-noise"]
    assert found["stable"] + found["candidate"] + sampled == REQUESTS
    for share, count in ((0.2, sampled), (0.05, found["stable~sampled-noise"]), (0.05, found["candidate"])):
        assert abs(count - REQUESTS * share) <= 4 * math.sqrt(REQUESTS * share * (1 - share))
    assert found["candidate~shadow"] == sampled
    assert found["stable~noise"] == found["stable~sampled-noise"]
    assert wanted.control_slice_ppm * CONTROL_SLICES < 1_000_000 - 250_000


async def test_every_sampled_request_ends_in_one_bin_and_envoy_counts_the_same() -> None:
    """``SHADOW_REQUESTS=10000`` makes it the run of 50 s that the promise is about."""
    async with shadow_lab(sampled_ppm=200_000, noise_ppm=40_000) as lab:
        paths = ("/echo", "/gzip", "/events/5", "/bytes/100000", "/status/503", "/echo")

        async def one(number: int) -> None:
            await asyncio.sleep(number / PER_SECOND)
            body = bytes(1000 * (number % 7))
            status, _ = await lab.ask(paths[number % len(paths)], body, x_session_id=f"conversation-{number}")
            assert status in (200, 503)

        await asyncio.gather(*(one(number) for number in range(REQUESTS)))
        twice = await total(lab, "stable~sampled-noise")
        sampled = await total(lab, "stable~sampled") + twice
        plain = await total(lab, "stable")
        await lab.recorder.until(lambda each: len(each.ends) == sampled + twice)

    assert plain + sampled == REQUESTS
    assert ended(lab.recorder, Side.CANDIDATE) == sampled
    assert ended(lab.recorder, Side.NOISE) == twice
    assert len(lab.recorder.pairs) >= 0.995 * (sampled + twice)
    assert len({each.id for each in lab.recorder.ends}) == sampled + twice


def ended(recorder: Recorder, side: Side) -> int:
    return sum(count for (of, _), count in recorder.bins.items() if of is side)


async def test_users_are_answered_without_a_recorder_and_one_that_comes_is_found() -> None:
    port = free_port()
    recorder = Recorder()
    async with shadow_lab(port=port) as lab:
        for _ in range(20):
            assert await lab.ask("/echo", b"Hello") == (200, b"stable says Hello")
        assert len(lab.candidate.asked) == 20
        await recorder.capture.start(LOOPBACK, port)
        try:

            async def asked() -> bool:
                assert (await lab.ask())[0] == 200
                return bool(recorder.pairs)

            await eventually_true(asked)
        finally:
            await recorder.capture.stop(0)
        for _ in range(20):
            assert await lab.ask("/events/3") == (
                200,
                b"data: stable 0\n\ndata: stable 1\n\ndata: stable 2\n\n",
            )


async def test_an_answer_goes_on_when_its_recorder_is_gone() -> None:
    async with shadow_lab() as lab:
        answer = asyncio.create_task(lab.ask("/events/100"))
        await eventually_true(lambda: _streams(lab))
        await lab.recorder.capture.stop(0)
        status, body = await answer
    assert status == 200
    assert body.endswith(b"data: stable 99\n\n")


async def _streams(lab: ShadowLab) -> bool:
    return lab.recorder.capture.open_streams == 2


async def test_break_glass_and_a_table_without_shadow_switch_the_mirror_off() -> None:
    async with shadow_lab() as lab:
        envoy = lab.lab.envoys[0]
        await asyncio.to_thread(envoy.modify_runtime, {"agentrollout.shop.agent.stable_only": "100"})
        assert (await lab.ask())[0] == 200
        await asyncio.to_thread(envoy.modify_runtime, {"agentrollout.shop.agent.stable_only": ""})
        await lab.lab.publish(lab.table().without_candidate())
        assert (await lab.ask())[0] == 200
        assert lab.candidate.asked == []
        await lab.lab.publish(lab.table())
        assert (await lab.ask())[0] == 200
        await lab.recorder.pair()
        clusters = await lab.lab.counters(re.escape(f"cluster.{KEY}/") + ".*rq_total")
        assert clusters[f"cluster.{KEY}/stable.upstream_rq_total"] == 2


async def test_a_user_who_leaves_in_the_middle_of_the_upload_makes_nobody_lose() -> None:
    async with shadow_lab(timeout=timedelta(seconds=1)) as lab:
        _, writer = await asyncio.open_connection(LOOPBACK, lab.lab.user_port)
        head = (
            f"POST /echo HTTP/1.1\r\nhost: {HOST}\r\nx-session-id: {SAMPLED}\r\ncontent-length: 100\r\n\r\n"
        )
        writer.write(head.encode() + b"half")
        await eventually_true(lambda: _asked(lab))
        writer.transport.abort()
        await lab.recorder.until(lambda each: bool(each.exchanges))
        now = asyncio.get_running_loop().time()
        ends = [*lab.recorder.ends, *lab.recorder.pairing.expire(now + 1000)]
    assert [isinstance(each, Ended) and each.bin for each in ends] == [Bin.UNPAIRED]


async def _asked(lab: ShadowLab) -> bool:
    return lab.recorder.capture.open_streams > 0


async def test_a_router_with_an_older_bootstrap_answers_and_mirrors_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def older(*arguments: Any, **options: Any) -> dict[str, Any]:
        made = bootstrap(*arguments, **options)
        layers = made["layered_runtime"]["layers"]
        made["layered_runtime"]["layers"] = [each for each in layers if each["name"] != "capture"]
        return made

    monkeypatch.setattr(envoy_lab, "bootstrap", older)
    async with shadow_lab() as lab:
        assert (await lab.ask("/echo", io.BytesIO(bytes(MEBIBYTE))))[0] == 200
        assert await total(lab, "stable~sampled-unmirrored") == 1
        assert lab.candidate.asked == []


async def test_calls_over_http2_are_compared_with_their_trailers() -> None:
    stable, candidate = Answers(), Answers()
    async with serving(stable) as port, serving(candidate) as other, shadow_lab() as lab:
        wanted = replace(lab.table(), stable=http2("stable", port), candidate=http2("candidate", other))
        await lab.lab.publish(wanted)
        async with channel(lab.lab) as users:
            ask = users.unary_unary("/shop.Agent/Ask")
            assert await ask(b"Hello", metadata=(("x-session-id", SAMPLED),)) == b"olleH"
        pair = await lab.recorder.pair()

    assert (stable.calls, candidate.calls) == (1, 1)
    assert pair.stable.body == pair.other.body == b"\0\0\0\0\5olleH"
    assert ("grpc-status", "0") in pair.other.headers


async def test_agents_behind_tls_and_candidates_that_can_be_cut_are_compared(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        Agent("stable", authority.issue("localhost", file="stable")) as stable,
        Agent("candidate", authority.issue("localhost", file="candidate")) as candidate,
        shadow_lab(ca_file=str(authority.file)) as lab,
    ):
        old, new = (backend(each.name, each.port, "localhost", tls=True) for each in (stable, candidate))
        await lab.lab.publish(replace(lab.table(), stable=old, candidate=new, cut_on_rollback=True))
        sent = {"host": HOST, "x-session-id": SAMPLED}
        async with lab.user.get(lab.url("/"), headers=sent) as response:
            assert (await response.read()).startswith(b"stable\n")
        pair = await lab.recorder.pair()

    assert pair.other.body.startswith(b"candidate\n")
    assert b"host: localhost" in pair.other.body
