"""Processes that the devkit starts are gone when they should be, however their starter ends."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devkit import instances
from devkit.errors import DevkitError, PortTakenError
from devkit.process import LOOPBACK, Process, free_port, wait_until
from devkit.service import Service

PYTHON = sys.executable
SLEEPER = [PYTHON, "-c", "import signal; print('up', flush=True); signal.pause()"]
STUBBORN = [
    PYTHON,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()",
]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], Process]]:
    started: list[Process] = []

    def start(command: list[str]) -> Process:
        process = Process(f"p{len(started)}", command, tmp_path)
        started.append(process)
        process.start()
        wait_until(lambda: "up" in process.log_tail(), timeout=10, what="the program's first line")
        return process

    yield start
    for process in started:
        process.kill()


Start = Callable[[list[str]], Process]


def gone(*pids: int) -> bool:
    return not any(
        process.pid in pids
        for process in psutil.process_iter(["status"])
        if process.info["status"] != "zombie"
    )


def parent_with_children(
    tmp_path: Path, *commands: list[str], thread: bool = False
) -> tuple[subprocess.Popen[str], list[int]]:
    """A program that starts the commands by the devkit, in a thread that ends at once if so asked."""
    script = (
        "import pathlib, signal, sys, threading\nfrom devkit.process import Process, wait_until\n"
        # What a shell starts in the background ignores SIGINT, and so would this.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def run():\n"
        f"    for number, command in enumerate({commands!r}):\n"
        f"        process = Process(f'child{{number}}', command, pathlib.Path({str(tmp_path)!r}))\n"
        "        process.start()\n        kept.append(process)\n"
        "        wait_until(lambda: 'up' in process.log_tail(), timeout=10, what='a line')\n"
        "        print(process.pid, flush=True)\n"
        "kept = []\n"
        + ("t = threading.Thread(target=run); t.start(); t.join()\n" if thread else "run()\n")
        + "print('all', flush=True)\nsignal.pause()\n"
    )
    parent = subprocess.Popen(
        [PYTHON, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in commands]
    assert parent.stdout.readline() == "all\n"
    parent.stdout.close()
    return parent, pids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGSEGV])
def test_children_go_with_their_parent_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    parent, children = parent_with_children(tmp_path, SLEEPER, SLEEPER, STUBBORN)
    parent.send_signal(number)
    parent.wait(10)
    wait_until(lambda: gone(*children), timeout=10, what="the children to go")


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    parent, (child,) = parent_with_children(tmp_path, SLEEPER, thread=True)
    try:
        assert not gone(child)
    finally:
        parent.kill()
        parent.wait(10)
    wait_until(lambda: gone(child), timeout=10, what="the child to go")


def test_a_child_goes_with_its_guard(start: Start) -> None:
    process = start(SLEEPER)
    psutil.Process(process.pid).parent().kill()  # type: ignore[union-attr]
    wait_until(lambda: gone(process.pid), timeout=10, what="the child to go")


def test_a_stubborn_child_is_killed_after_the_deadline(start: Start) -> None:
    process = start(STUBBORN)
    process.stop(deadline=0.2)
    assert process.returncode == 128 + signal.SIGKILL
    assert gone(process.pid)


def test_a_paused_child_stops(start: Start) -> None:
    process = start(SLEEPER)
    process.pause()
    wait_until(
        lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, timeout=5, what="the pause"
    )
    process.stop()
    assert process.returncode == 128 + signal.SIGTERM


def test_a_child_may_be_started_again_but_not_twice(start: Start) -> None:
    process = start(SLEEPER)
    first = process.pid
    with pytest.raises(DevkitError, match="running already"):
        process.start()
    process.kill()
    process.start()
    assert process.running
    assert process.pid != first


def test_stopping_what_ended_by_itself_is_quiet(tmp_path: Path) -> None:
    process = Process("short", [PYTHON, "-c", "raise SystemExit(7)"], tmp_path)
    process.start()
    wait_until(lambda: not process.running, timeout=10, what="its end")
    process.stop()
    assert process.returncode == 7


def test_what_cannot_run_says_so(tmp_path: Path) -> None:
    process = Process("missing", ["/nowhere/program"], tmp_path)
    process.start()
    with pytest.raises(DevkitError, match=r"ended with code 127(.|\n)*cannot run /nowhere/program"):
        process.wait_ready(lambda: False, timeout=10)
    process.stop()


def test_no_setting_of_the_user_reaches_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "mine")
    process = Process("env", [PYTHON, "-c", "import os; print('ETCD_NAME' in os.environ, 'up')"], tmp_path)
    process.start()
    wait_until(lambda: not process.running, timeout=10, what="its end")
    process.stop()
    assert "False up" in process.log_tail()


class Listener(Service):
    """Listens on a port; somebody else was faster the first `unlucky` times."""

    def __init__(self, directory: Path, unlucky: int) -> None:
        super().__init__("listener", directory)
        self.unlucky = unlucky
        self.others: list[socket.socket] = []
        self.port = 0
        self.process: Process | None = None

    def _choose_ports(self) -> None:
        self.port = free_port()
        if len(self.others) < self.unlucky:
            self.others.append(socket.create_server((LOOPBACK, self.port)))
        program = f"import socket, time; s = socket.create_server(('{LOOPBACK}', {self.port})); print('up', flush=True); time.sleep(99)"
        self.process = Process("listener", [PYTHON, "-c", program], self.directory)

    def _launch(self) -> None:
        assert self.process is not None
        self.process.start()

        def answers() -> bool:
            with socket.socket() as client:
                return client.connect_ex((LOOPBACK, self.port)) == 0

        self.process.wait_ready(answers, timeout=10, port=self.port)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


def test_a_port_taken_in_between_is_replaced_by_another(tmp_path: Path) -> None:
    listener = Listener(tmp_path, unlucky=2)
    with listener:
        assert listener.port not in {other.getsockname()[1] for other in listener.others}
    for other in listener.others:
        other.close()


def test_a_port_taken_again_and_again_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    listener = Listener(tmp_path, unlucky=99)
    with pytest.raises(PortTakenError):
        listener.start()
    assert listener.process is not None
    assert not listener.process.running
    for other in listener.others:
        other.close()


def test_free_ports_differ_and_are_free() -> None:
    ports = {free_port() for _ in range(50)}
    assert len(ports) > 45
    with socket.create_server((LOOPBACK, ports.pop())):
        pass


def test_directories_of_the_dead_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    mine = instances.create_directory("mine")
    script = "from devkit import instances; print(instances.create_directory('theirs'))"
    theirs = Path(
        subprocess.run(
            [PYTHON, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
        ).stdout.strip()
    )
    assert theirs.exists()
    assert [each.directory for each in instances.living()] == [mine]
    assert not theirs.exists()


def test_starts_from_several_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    processes = [Process(f"p{number}", SLEEPER, tmp_path) for number in range(8)]
    threads = [threading.Thread(target=process.start) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({process.pid for process in processes}) == 8
    for process in processes:
        process.stop()
    assert gone(*(process.pid for process in processes))
