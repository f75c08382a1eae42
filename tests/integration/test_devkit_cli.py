"""`python -m devkit` as a person uses it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devkit.process import wait_until

REPOSITORY = Path(__file__).parents[2]
DEVKIT = [sys.executable, "-m", "devkit"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The user's, but with nobody else's instances in sight and no cluster named."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DEVKIT_")}
    return kept | {"XDG_STATE_HOME": str(tmp_path), "COLUMNS": "200"}


@pytest.fixture
def up(environment: dict[str, str]) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start `up` in a process group of its own, as a terminal would, and wait until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*DEVKIT, "up"],
            env=environment,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ready."):
                return process
        raise AssertionError("up ended before it was ready")

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def run(environment: dict[str, str], *args: str) -> str:
    outcome = subprocess.run(
        [*DEVKIT, *args],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return outcome.stdout + outcome.stderr


def instances_in(state: Path) -> list[Path]:
    return sorted((state / "agentrollout" / "devkit").glob("*/"))


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_ctrl_c_removes_everything(up: Callable[[], subprocess.Popen[str]], tmp_path: Path) -> None:
    process = up()
    servers = descendants(process)
    names = {server.name() for server in servers}
    assert {"etcd", "kube-apiserver", "kube-controller", "prometheus"} <= {name[:15] for name in names}
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert not any(server.is_running() for server in servers)
    assert instances_in(tmp_path) == []


def test_a_killed_up_takes_its_servers_along_and_status_sweeps(
    up: Callable[[], subprocess.Popen[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    process = up()
    servers = descendants(process)
    process.kill()
    process.wait()
    wait_until(
        lambda: not any(server.is_running() for server in servers), timeout=20, what="the servers to go"
    )
    assert len(instances_in(tmp_path)) == 1
    assert "Nothing runs" in run(environment, "status")
    assert instances_in(tmp_path) == []


def test_two_run_side_by_side_and_down_ends_the_one_that_is_named(
    up: Callable[[], subprocess.Popen[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    first = up()
    second = up()
    status = run(environment, "status")
    assert status.count("export KUBECONFIG=") == 2
    (name,) = [
        path.name
        for path in instances_in(tmp_path)
        if f'"pid": {first.pid},' in (path / "owner.json").read_text()
    ]
    assert f"Removed {name}." in run(environment, "down", name)
    assert first.wait(10) == 0
    assert second.poll() is None
    assert "Removed up-" in run(environment, "down")
    assert second.wait(10) == 0
    assert instances_in(tmp_path) == []


def test_a_detached_one_prints_how_to_reach_it(environment: dict[str, str], tmp_path: Path) -> None:
    try:
        printed = run(environment, "up", "--detach", "--no-prometheus")
        assert printed.startswith("export KUBECONFIG=")
        kubeconfig = Path(printed.splitlines()[0].partition("=")[2])
        assert kubeconfig.is_relative_to(tmp_path)
        assert kubeconfig.stat().st_mode & 0o077 == 0
    finally:
        run(environment, "down")
    assert not kubeconfig.exists()


def test_a_kubeconfig_that_is_not_there_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    output = run(environment, "up", f"--kubeconfig={tmp_path / 'nowhere'}", "--no-prometheus")
    assert f"There is no kubeconfig at {tmp_path / 'nowhere'}" in output
    assert "Traceback" not in output


def test_down_of_an_unknown_name_says_where_to_look(environment: dict[str, str]) -> None:
    assert "python -m devkit status" in run(environment, "down", "nobody")
