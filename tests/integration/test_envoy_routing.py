"""What one request meets on its way through a real Envoy."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.core.traffic import AudienceSplit
from tests.integration.certificates import Authority
from tests.integration.envoy_lab import Agent, Lab, arms, backend, fetch, table

INTERNAL = AudienceSplit("x-user-group", ("internal", "staff.eu"), 1_000_000)
COOKIE = "agentrollout-conversation="


async def test_the_agent_learns_which_artifact_it_is_and_clients_cannot_say_so() -> None:
    forged = [
        ("x-agentrollout-artifact", "sha256:forged"),
        ("X-AgentRollout-Anything", "forged"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-user-group", "customer"),
        ("x-session-id", "one"),
    ]
    async with arms() as (stable, _), Lab() as lab:
        await lab.start(table(backend("stable", stable.port)))
        seen = (await fetch(lab.user_port, headers=forged)).seen_headers

    assert seen["x-agentrollout-artifact"] == "sha256:stable"
    assert {name for name in seen if name.startswith("x-agentrollout-")} == {"x-agentrollout-artifact"}
    assert not {"x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms"} & set(seen)
    assert (seen["x-user-group"], seen["x-session-id"]) == ("customer", "one")


async def test_an_audience_stage_serves_the_audience_and_nobody_else() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        both = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(table(*both, audiences=(INTERNAL,)))

        async def version(*headers: tuple[str, str]) -> str:
            return (await fetch(lab.user_port, headers=[("x-session-id", "one"), *headers])).served_by

        assert await version(("x-user-group", "internal")) == "candidate"
        assert await version(("x-user-group", "staff.eu")) == "candidate"
        assert await version(("x-user-group", "staffXeu")) == "stable"
        assert await version(("x-user-group", "internal2")) == "stable"
        assert await version() == "stable"
        counted = await lab.counters("cluster.shop")

    assert counted["cluster.shop/agent/candidate~audience.upstream_rq_completed"] == 2
    assert counted["cluster.shop/agent/stable.upstream_rq_completed"] == 3


async def test_an_audience_may_have_very_many_values() -> None:
    values = tuple(f"customer-{index:04}-{'x' * 50}" for index in range(200))
    audience = AudienceSplit("x-user-group", values, 1_000_000)
    async with arms() as (stable, candidate), Lab() as lab:
        both = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(table(*both, audiences=(audience,)))
        last = await fetch(lab.user_port, headers=[("x-user-group", values[-1])])

    assert last.served_by == "candidate"


async def test_who_has_no_conversation_gets_a_cookie_and_stays_with_it() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        both = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(table(*both, 500_000))
        cookies = []
        for _ in range(20):
            given = (await fetch(lab.user_port)).header("set-cookie")
            assert given.startswith(COOKIE)
            cookies.append(given.split(";")[0])
        versions = []
        for cookie in cookies:
            answers = [await fetch(lab.user_port, headers=[("cookie", cookie)]) for _ in range(5)]
            assert not any(answer.header("set-cookie") for answer in answers)
            assert len({answer.served_by for answer in answers}) == 1
            versions.append(answers[0].served_by)

    assert len(set(cookies)) == 20
    assert set(versions) == {"stable", "candidate"}


async def test_without_header_and_cookie_an_address_keeps_its_version() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        both = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(table(*both, 500_000))
        versions = {(await fetch(lab.user_port)).served_by for _ in range(20)}

    assert len(versions) == 1


async def test_an_empty_affinity_header_is_no_conversation() -> None:
    async with arms() as (stable, candidate), Lab() as lab:
        both = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(table(*both, 500_000))
        answer = await fetch(lab.user_port, headers=[("x-session-id", "")])

    assert answer.header("set-cookie").startswith(COOKIE)


async def test_an_unknown_host_is_told_so() -> None:
    async with arms() as (stable, _), Lab() as lab:
        await lab.start(table(backend("stable", stable.port)))
        unknown = await fetch(lab.user_port, host="other.example")
        with_port = await fetch(lab.user_port, host=f"agent.example:{lab.user_port}")

    assert (unknown.status, unknown.body) == (404, b"agentrollout: no rollout serves this host\n")
    assert with_port.status == 200


async def test_a_404_of_the_agent_is_left_alone() -> None:
    async with arms() as (stable, _), Lab() as lab:
        await lab.start(table(backend("stable", stable.port)))
        answer = await fetch(lab.user_port, "/status/404")

    assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize(("named", "status"), [("localhost", 200), ("somebody-else", 503)])
async def test_tls_agents_are_verified_by_name(tmp_path: Path, named: str, status: int) -> None:
    authority = Authority(tmp_path)
    async with Agent("secure", authority.issue(named)) as agent, Lab({"ca_file": str(authority.file)}) as lab:
        await lab.start(table(backend("secure", agent.port, "localhost", tls=True)))
        answer = await fetch(lab.user_port)

    assert answer.status == status
    assert status != 200 or answer.seen_headers["host"] == "localhost"
