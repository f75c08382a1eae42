"""`python -m devkit`: the local control plane by hand."""

import contextlib
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from devkit import instances
from devkit.cluster import open_cluster
from devkit.errors import DevkitError
from devkit.instances import Instance
from devkit.process import LOOPBACK, wait_until
from devkit.prometheus import Prometheus, ScrapeJob
from devkit.toolchain import TESTED_WITH, Toolchain

_UP = "up"
_JOBS = (
    ScrapeJob("envoy", (f"{LOOPBACK}:9901",), path="/stats/prometheus"),
    ScrapeJob("operator", (f"{LOOPBACK}:8081",)),
)
"""Where a router and an operator listen unless told otherwise."""

_READY = "ready"  # what `up` prints once it is ready; `status` and `up --detach` read it
_STOP_SECONDS = 60.0
_START_SECONDS = 3600.0  # a first start builds

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="A local Kubernetes control plane without Docker."
)


@app.command()
def up(
    *,
    prometheus: Annotated[bool, typer.Option(help="Start a Prometheus as well.")] = True,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="DEVKIT_KUBECONFIG", help="Use this cluster instead of starting one."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it is ready; `down` ends it.")
    ] = False,
) -> None:
    """Start a Kubernetes API and stay until Ctrl-C, which removes everything."""
    if detach:
        _start_detached(prometheus=prometheus, kubeconfig=kubeconfig)
        return
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _interrupt)
    with _own_directory() as directory, ExitStack() as stack:
        cluster = stack.enter_context(open_cluster(directory, kubeconfig=kubeconfig))
        lines = [f"export KUBECONFIG={cluster.kubeconfig}"]
        if shutil.which("kubectl") is None:
            lines.append(f"alias kubectl={Toolchain().find('kubectl')}")
        if prometheus:
            server = stack.enter_context(Prometheus(_JOBS, directory=directory / "prometheus"))
            lines.append(f"export PROMETHEUS_URL={server.url}")
        (directory / _READY).write_text("\n".join(lines))
        typer.echo("\n".join(lines))
        typer.echo("Ready. Ctrl-C removes everything.", err=True)
        while True:
            signal.pause()


@app.command()
def status() -> None:
    """Show what runs, whoever started it."""
    found = instances.living()
    if not found:
        typer.echo("Nothing runs. `python -m devkit up` starts a control plane.")
        return
    table = Table("name", "pid", "since", "started by", box=None)
    for each in found:
        since = dt.datetime.fromtimestamp(each.started).astimezone().strftime("%H:%M:%S")
        table.add_row(each.name, str(each.pid), since, each.command or "a test or a program")
    Console().print(table)
    for each in found:
        if (each.directory / _READY).exists():
            typer.echo(f"\n# {each.name}\n{(each.directory / _READY).read_text()}")


@app.command()
def down(
    name: Annotated[str | None, typer.Argument(help="As `status` shows it; all when left out.")] = None,
) -> None:
    """End what `up` started; what a test or a program started ends with it, not here."""
    ours = [each for each in instances.living() if each.command == _UP]
    chosen = [each for each in ours if name in {None, each.name}]
    if not chosen and name is not None:
        raise DevkitError(f"`up` started nothing called {name!r}: see `python -m devkit status`.")
    for each in chosen:
        _end(each)
        typer.echo(f"Removed {each.name}.")


@app.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Programs; what the tests need when left out.")
    ] = None,
) -> None:
    """Build what this machine lacks (minutes, once) and print where each program is."""
    toolchain = Toolchain()
    wanted = tuple(names or TESTED_WITH)
    toolchain.ensure(*wanted)
    for each in wanted:
        typer.echo(f"{each}: {toolchain.find(each)}")


def main() -> None:
    """Run the command line; errors are printed as sentences."""
    try:
        app()
    except DevkitError as error:
        typer.echo(str(error), err=True)
        sys.exit(1)


@contextmanager
def _own_directory() -> Iterator[Path]:
    directory = instances.create_directory(_UP, command=_UP)
    try:
        yield directory
    except KeyboardInterrupt:
        typer.echo("Removed everything.", err=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """`down` sends SIGTERM; it ends like Ctrl-C."""
    raise KeyboardInterrupt


def _start_detached(*, prometheus: bool, kubeconfig: Path | None) -> None:
    command = [sys.executable, "-m", "devkit", _UP, "--prometheus" if prometheus else "--no-prometheus"]
    if kubeconfig is not None:
        command.append(f"--kubeconfig={kubeconfig.resolve()}")
    instances.root().mkdir(parents=True, exist_ok=True)
    log = instances.root() / f"detached-{os.getpid()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def ready() -> bool:
        return process.poll() is not None or _ready_file(process.pid) is not None

    wait_until(ready, timeout=_START_SECONDS, what="the control plane to be ready")
    lines = _ready_file(process.pid)
    said = log.read_text()
    log.unlink()  # its writer keeps it open as long as it lives
    if lines is None:
        raise DevkitError(said.strip())
    typer.echo(lines)


def _ready_file(pid: int) -> str | None:
    for each in instances.living():
        if each.pid == pid and (each.directory / _READY).exists():
            return (each.directory / _READY).read_text()
    return None


def _end(instance: Instance) -> None:
    """Ask the process that owns the instance to end, and wait until it has cleaned up."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(instance.pid, signal.SIGTERM)
    wait_until(
        lambda: not instance.alive, timeout=_STOP_SECONDS, what=f"{instance.name} (pid {instance.pid}) to end"
    )
