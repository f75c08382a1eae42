"""`python -m examples.demo`: exit code 0 only if all acts went as they should."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from devkit.errors import DevkitError
from devkit.toolchain import ALWAYS_NEEDED, Toolchain
from examples.demo.acts import all_acts
from examples.demo.compared import lost_comparison
from examples.demo.errors import DemoError
from examples.demo.keep import how_to_look
from examples.demo.observations import Observations
from examples.demo.play import Play
from examples.demo.report import report
from examples.demo.result import ActResult
from examples.demo.screen import PICTURE_SECONDS, Screen, open_screen
from examples.demo.story import Story
from examples.demo.users import Habits, Users
from examples.demo.view import Scene
from examples.demo.watch import RolloutWatch
from examples.demo.world import World, kept_on_failure, open_world

_LOG_WIDTH = 100
_STOPPED = "Stopped; everything is removed."


def main(
    *,
    keep: Annotated[bool, typer.Option("--keep", envvar="KEEP", help="Leave it running to look at.")] = False,
    rate: Annotated[float, typer.Option(min=20, help="Requests per second of all users.")] = 180.0,
) -> None:
    """Deliver four versions of an agent on real parts: one is promoted, three are taken back, one of them before a user met it."""
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    directory = Path(tempfile.mkdtemp(prefix="agentrollout-demo-"))
    try:
        Toolchain(console=console).ensure(*ALWAYS_NEEDED)
        with kept_on_failure(directory), open_world(directory, console.print) as world:
            asyncio.run(_play(world, console, rate, keep=keep))
        if keep:
            console.print(_STOPPED)
    except (DemoError, DevkitError) as error:
        console.print(f"{error}\nThe logs are in {directory}.", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print(_STOPPED)
        sys.exit(130)


async def _play(world: World, console: Console, rate: float, *, keep: bool) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            await _play_all(world, console, rate, tasks, keep=keep)
    except* (DemoError, DevkitError) as group:
        raise _first(group) from None


async def _play_all(
    world: World, console: Console, rate: float, tasks: asyncio.TaskGroup, *, keep: bool
) -> None:
    observations = Observations()
    users = Users(world.users_url, world.host, Habits(requests_per_second=rate), observations)
    with open_screen(console) as screen:
        story = Story(screen.event)
        watch = RolloutWatch(world.watch_command(), story.see)
        play = Play(world, watch, story, users, observations)
        drawing = tasks.create_task(_draw(screen, story, observations))
        running = await play.begin(tasks)
        results = await _play_acts(play)
        drawing.cancel()
    for part in report(results):
        console.print(part)
    if any(result.compared for result in results):
        console.print("\nOne of the answers that users were spared (agentrollout shadow losses, show):\n")
        shown = await asyncio.to_thread(lost_comparison, world, console.width)
        console.print(shown, markup=False, highlight=False, soft_wrap=True)
    if keep:
        console.print(how_to_look(world, _serving(story)), markup=False, highlight=False, soft_wrap=True)
        await _until_stopped()
    for task in running:
        task.cancel()
    problems = [f"Act {result.act.number}: {result.problem}" for result in results if result.problem]
    if problems:
        raise DemoError("\n".join(problems))
    console.print("All acts went as they should.", style="green")


async def _play_acts(play: Play) -> list[ActResult]:
    """The acts build on each other, so the first that goes wrong is the last."""
    results: list[ActResult] = []
    for act in all_acts():
        results.append(await play.act(act))
        if results[-1].problem:
            break
    return results


async def _draw(screen: Screen, story: Story, observations: Observations) -> None:
    def scene() -> Scene:
        now = datetime.now(UTC)
        return Scene(
            chapter=story.chapter,
            acts=len(all_acts()),
            rollout=story.rollout,
            recent=observations.recent(now),
            requests=observations.requests,
            failed=observations.failed,
            now=now,
        )

    while True:
        screen.scene(scene)
        await asyncio.sleep(PICTURE_SECONDS)


def _serving(story: Story) -> str:
    stable = story.rollout.status.stable if story.rollout else None
    return stable.artifact_id if stable else ""


async def _until_stopped() -> None:
    """Until Ctrl-C, which is how a kept demo ends well."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends the demo like Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(main)
