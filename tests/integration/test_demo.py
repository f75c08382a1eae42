"""The demo's parts together, on real ones; the whole demo is run by ``make demo``."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

import examples
from devkit.controlplane import ControlPlane
from examples.demo.acts import all_acts
from examples.demo.observations import Observations
from examples.demo.play import Play
from examples.demo.result import ActResult
from examples.demo.story import Story
from examples.demo.users import Habits, Users
from examples.demo.watch import RolloutWatch
from examples.demo.world import World, open_world

FOLDER = Path(examples.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_example_manifests_are_accepted_by_the_api_server(
    control_plane: ControlPlane, namespace: str, path: Path
) -> None:
    control_plane.kubectl("apply", f"--filename={path}", f"--namespace={namespace}", "--validate=strict")


async def play_one(world: World, number: int) -> ActResult:
    observations = Observations()
    story = Story(lambda *_: None)
    watch = RolloutWatch(world.watch_command(), story.see)
    users = Users(world.users_url, world.host, Habits(requests_per_second=150), observations)
    play = Play(world, watch, story, users, observations)
    async with asyncio.TaskGroup() as tasks:
        running = await play.begin(tasks)
        result = await play.act(all_acts()[number - 1])
        for task in running:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*running)
    return result


def test_a_prompt_that_breaks_tool_calls_is_taken_back_while_users_talk(tmp_path: Path) -> None:
    said: list[str] = []
    with open_world(tmp_path, said.append) as world:
        result = asyncio.run(play_one(world, 2))
        labelled = world.prometheus.query('agent_tool_calls_total{artifact=~"sha256:.+", outcome="error"}')

    assert not result.problem
    assert result.met.requests > result.met.failed > 0
    assert result.taken_back is not None
    assert 0 <= result.taken_back.seconds < 10
    assert labelled, "agents report the artifact that the router told them"
    assert len(said) == 2
