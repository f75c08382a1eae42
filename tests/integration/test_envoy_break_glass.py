"""Everyone goes to stable by one command to real Envoys, with nothing else alive; and nothing but that is let through."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from controller.adapters.envoy.doors import BreakGlass
from controller.adapters.envoy.metrics import OVERRIDE_METRIC
from controller.core.traffic import AudienceSplit, TrafficTable
from devkit.process import LOOPBACK, free_port
from tests.integration.certificates import Authority, Chain
from tests.integration.envoy_lab import Lab, arms, backend, fetch, table

INTERNAL = AudienceSplit("x-user-group", ("internal",), 1_000_000)
ROUTER_NAME = "router.example"


@dataclass
class Doors:
    """Where one Envoy lets people in, and with what."""

    authority: Authority
    person: Chain
    admin: int = field(default_factory=free_port)
    metrics: int = field(default_factory=free_port)
    break_glass: int = field(default_factory=free_port)

    @classmethod
    def make(cls, directory: Path) -> Doors:
        authority = Authority(directory)
        return cls(authority, authority.issue("person"))

    def access(self) -> dict[str, Any]:
        cert, key = map(str, self.authority.issue(ROUTER_NAME))
        door = BreakGlass((LOOPBACK, self.break_glass), cert, key, str(self.authority.file))
        return {"admin": (LOOPBACK, self.admin), "metrics": (LOOPBACK, self.metrics), "break_glass": door}

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.break_glass}"

    async def command(
        self, *more: str, routers: tuple[str, ...] = (), rollout: str = "agent", namespace: str = "shop"
    ) -> tuple[int, str]:
        """Run the command as a person does; exit code and output."""
        program = Path(sys.executable).with_name("agentrollout")
        cert, key = self.person
        arguments = [f"--router={url}" for url in routers or (self.url,)]
        arguments += [f"--cert={cert}", f"--key={key}", f"--ca={self.authority.file}"]
        process = await asyncio.create_subprocess_exec(
            *(program, "router", "break-glass", rollout, f"--namespace={namespace}"),
            *(*arguments, f"--server-name={ROUTER_NAME}", *(more or ("--no-wait",))),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:  # the test has ended, and would leave it waiting for an API server
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def request(self, method: str, path: str, chain: Chain | None, **more: Any) -> httpx.Response:
        context = ssl.create_default_context(cafile=self.authority.file)
        if chain:
            context.load_cert_chain(*chain)
        async with httpx.AsyncClient(verify=context) as client:
            extensions = {"sni_hostname": ROUTER_NAME}
            return await client.request(method, self.url + path, extensions=extensions, **more)


@dataclass
class Met:
    versions: Counter[str] = field(default_factory=Counter)
    failed: int = 0


@asynccontextmanager
async def users(port: int) -> AsyncIterator[Callable[[], Awaitable[Met]]]:
    """Users of all kinds without a pause; gives what a few hundred of them meet from now on."""
    met = Met()

    async def ask(kind: int) -> None:
        number = 0
        while True:
            number += 1
            headers = [[("x-session-id", f"{kind}-{number}")], [("x-user-group", "internal")], []][kind % 3]
            answer = await fetch(port, headers=headers)
            met.versions[answer.served_by if answer.status == 200 else str(answer.status)] += 1
            met.failed += answer.status != 200

    async def fresh() -> Met:
        nonlocal met
        failed = met.failed
        # What was under way when the question was asked ends first.
        for _ in range(2):
            met.versions = Counter()
            while met.versions.total() < 150:  # noqa: ASYNC110 - it is users who make it true
                await asyncio.sleep(0.01)
        return Met(Counter(met.versions), met.failed - failed)

    tasks = [asyncio.create_task(ask(kind)) for kind in range(6)]
    try:
        yield fresh
        assert met.failed == 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("weight", [10_000, 500_000, 1_000_000])
async def test_with_nothing_else_alive_one_command_sends_everyone_to_stable_and_nobody_fails(
    weight: int, tmp_path: Path
) -> None:
    doors = Doors.make(tmp_path)
    async with arms() as (stable, candidate), Lab() as lab:
        both = backend("stable", stable.port), backend("candidate", candidate.port)
        await lab.start(table(*both, weight, audiences=(INTERNAL,)), access=doors.access())
        await lab.router.stop(0)
        async with users(lab.user_port) as met:
            assert (await met()).versions["candidate"]

            said = f"{doors.url}: all users of shop/agent are sent to its stable version\n"
            assert await doors.command() == (0, said)
            assert set((await met()).versions) == {"stable"}

            code, output = await doors.command("--release")
            assert (code, output) == (0, f"{doors.url}: the split of shop/agent holds again\n")
            assert (await met()).versions["candidate"]


async def test_an_override_holds_whatever_is_pushed_meanwhile(tmp_path: Path) -> None:
    doors = Doors.make(tmp_path)
    async with arms() as (stable, candidate), Lab() as lab:
        first = table(backend("stable", stable.port), backend("candidate", candidate.port), 10_000)
        await lab.start(first, access=doors.access())
        async with users(lab.user_port) as met:
            for _ in range(2):  # whoever is in doubt gives the command again
                assert (await doors.command())[0] == 0
            pushed: list[tuple[TrafficTable, str]] = [
                (replace(first, weight_ppm=1_000_000), "stable"),
                (replace(first, weight_ppm=0, audiences=(INTERNAL,)), "stable"),
                (first.without_candidate(), "stable"),
                # Which version is stable stays the operator's to say.
                (
                    replace(first.without_candidate(), stable=backend("candidate", candidate.port)),
                    "candidate",
                ),
                (table(backend("candidate", candidate.port), first.stable, 500_000), "candidate"),
            ]
            for each, serves in pushed:
                await lab.publish(each)
                assert set((await met()).versions) == {serves}


async def test_the_other_rollouts_keep_their_splits(tmp_path: Path) -> None:
    doors = Doors.make(tmp_path)
    async with arms() as (stable, candidate), Lab() as lab:
        both = backend("stable", stable.port), backend("candidate", candidate.port)
        other = table(*both, 1_000_000, key="shop/agent-2", hosts=("other.example",))
        await lab.start(table(*both, 1_000_000), other, access=doors.access())
        await doors.command()
        answers = [
            (await fetch(lab.user_port, host=host)).served_by for host in ("agent.example", "other.example")
        ]

    assert answers == ["stable", "candidate"]


async def test_a_router_that_does_not_take_the_order_is_told_and_the_others_do_take_it(
    tmp_path: Path,
) -> None:
    doors = Doors.make(tmp_path)
    async with arms() as (stable, candidate), Lab() as lab:
        await lab.start(
            table(backend("stable", stable.port), backend("candidate", candidate.port), 1_000_000),
            access=doors.access(),
        )
        dead, users_port = f"https://{LOOPBACK}:{free_port()}", f"https://{LOOPBACK}:{lab.user_port}"
        code, output = await doors.command(routers=(dead, doors.url, users_port))
        served = (await fetch(lab.user_port)).served_by

    assert code == 1
    assert f"{dead}: All connection attempts failed" in output
    assert f"{users_port}: " in output
    assert "2 of 3 routers did not take the order" in output
    assert served == "stable"


ORDER = "/runtime_modify?agentrollout.shop.agent.stable_only=100"


async def test_the_break_glass_address_lets_nothing_else_through(tmp_path: Path) -> None:
    doors = Doors.make(tmp_path)
    stranger = Authority(tmp_path / "stranger").issue("person")
    async with arms() as (stable, candidate), Lab() as lab:
        await lab.start(
            table(backend("stable", stable.port), backend("candidate", candidate.port), 1_000_000),
            access=doors.access(),
        )
        for chain in (None, stranger):
            with pytest.raises(
                (httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError, ssl.SSLError)
            ):
                await doors.request("POST", ORDER, chain)
        refused = [
            await doors.request(method, path, doors.person)
            for method, path in (
                ("GET", ORDER),
                ("POST", "/quitquitquit"),
                ("GET", "/config_dump"),
                ("GET", "/stats/prometheus"),
                ("POST", "/runtime_modify"),
                ("POST", "/runtime_modify?envoy.reloadable_features.x=true"),
                ("POST", f"{ORDER}&overload.global_downstream_max_connections=0"),
                ("POST", "/runtime_modify?agentrollout.shop.agent.stable_only=50"),
                ("POST", f"/../runtime_modify{ORDER.removeprefix('/runtime_modify')}&a=b"),
            )
        ]
        untouched = (await fetch(lab.user_port)).served_by
        body = {"overload.global_downstream_max_connections": "0"}
        accepted = await doors.request("POST", ORDER, doors.person, data=body)
        overridden = lab.envoys[0].admin_get("/runtime", format="json").json()["entries"]

    assert {answer.status_code for answer in refused} == {404}
    assert untouched == "candidate"
    assert accepted.status_code == 200
    assert not set(body) & set(overridden)
    assert overridden["agentrollout.shop.agent.stable_only"]["final_value"] == "100"


async def test_a_router_full_of_users_can_still_be_told(tmp_path: Path) -> None:
    doors = Doors.make(tmp_path)
    async with arms() as (stable, candidate), Lab() as lab:
        await lab.start(
            table(backend("stable", stable.port), backend("candidate", candidate.port), 1_000_000),
            access={**doors.access(), "max_connections": 2},
        )
        held = [await asyncio.open_connection(LOOPBACK, lab.user_port) for _ in range(4)]
        refused = await fetch(lab.user_port)
        code, output = await doors.command()
        for _, writer in held:
            writer.close()

    assert (refused.status, code) == (0, 0), output


async def test_prometheus_reads_its_page_where_the_admin_interface_cannot_be_reached(tmp_path: Path) -> None:
    doors = Doors.make(tmp_path)
    async with arms() as (stable, _), Lab() as lab:
        await lab.start(table(backend("stable", stable.port)), access=doors.access())
        url = f"http://{LOOPBACK}:{doors.metrics}"
        async with httpx.AsyncClient() as client:
            page = await client.get(f"{url}/stats/prometheus")
            await doors.request("POST", ORDER, doors.person)
            overridden = await client.get(f"{url}/stats/prometheus")
            others = [
                await client.get(f"{url}/config_dump"),
                await client.get(f"{url}/stats"),
                await client.post(f"{url}/stats/prometheus"),
                await client.post(f"{url}{ORDER}"),
                await client.post(f"{url}/quitquitquit"),
            ]

    assert "envoy_server_live" in page.text
    assert f"{OVERRIDE_METRIC}{{}} 0" in page.text
    assert f"{OVERRIDE_METRIC}{{}} 1" in overridden.text
    assert {answer.status_code for answer in others} == {404}
