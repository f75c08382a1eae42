"""Local processes: started on loopback, awaited by condition, gone with whoever started them."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from devkit.errors import DevkitError, PortTakenError

_GUARD = Path(__file__).with_name("_guard.py")
_POLL_SECONDS = 0.05
_LOG_TAIL_BYTES = 4000
LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a TCP port that nothing listens on at loopback right now.

    Taken from below the range the kernel gives to outgoing connections: under load those would sit on a port that a
    stopped server wants back when it restarts.

    Raises:
        DevkitError: when a hundred random ports are all in use.
    """
    for _ in range(100):
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise DevkitError(
        "No free port between 15000 and 32000 on 127.0.0.1: stop some of the programs that listen there."
    )


def wait_until(condition: Callable[[], bool], *, timeout: float, what: str) -> None:
    """Poll `condition` until it holds.

    Args:
        condition: Cheap and safe to call twenty times a second.
        timeout: Seconds.
        what: What is awaited, for the error: "Prometheus to be ready".

    Raises:
        DevkitError: when `timeout` seconds went by.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise DevkitError(f"Waited {timeout:g} s for {what} in vain.")
        time.sleep(_POLL_SECONDS)


class Process:
    """One program with its log file; it may be started again after it ended.

    Nothing of the starter's environment reaches the program but PATH, HOME and TMPDIR: a proxy or an `ETCD_…`
    variable of the user must not change what runs here.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = directory / f"{name}.log"
        self._directory = directory
        self._env = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ} | dict(
            env or {}
        )
        self._guard: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None
        self._pid = 0

    @property
    def pid(self) -> int:
        """The program's own process id (not its guard's); 0 before the first start."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the program has not ended; a paused one is running."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code of the last run, 128 + signal when killed; None while running or never started."""
        return None if self._guard is None else self._guard.poll()

    def start(self) -> None:
        """Start the program; the log is appended to.

        Raises:
            DevkitError: when it is running already or cannot be started at all.
        """
        if self.running:
            raise DevkitError(f"{self.name} is running already (pid {self._pid}): stop it first.")
        self._close_orders()
        ours, guards = socket.socketpair()
        with guards, self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, str(guards.fileno()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd=self._directory,
                pass_fds=(guards.fileno(),),
                start_new_session=True,  # Ctrl-C in a terminal reaches us alone, and we stop things in order
            )
        self._orders = ours
        line = b""
        while not line.endswith(b"\n"):
            received = ours.recv(16)
            if not received:
                raise DevkitError(f"{self.name} did not start:\n{self.log_tail()}")
            line += received
        self._pid = int(line)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program; nothing happens when it has ended."""
        if self.running and self._orders is not None:
            with contextlib.suppress(ConnectionError):
                self._orders.sendall(bytes([number]))

    def pause(self) -> None:
        """Freeze the program (SIGSTOP): connections stay open and nobody answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused program go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the program with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self._wait(10)
        self._close_orders()

    def stop(self, deadline: float = 5.0) -> None:
        """End the program with SIGTERM, or with SIGKILL when it is still there after `deadline` seconds."""
        self.signal(signal.SIGTERM)
        self.resume()  # a paused program would take SIGTERM only when resumed
        try:
            self._wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close_orders()

    def log_tail(self) -> str:
        """Return the end of the log, for error messages."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def wait_ready(self, ready: Callable[[], bool], *, timeout: float, port: int | None = None) -> None:
        """Wait until the program answers.

        Args:
            ready: Whether it answers; its errors count as "not yet" only if it catches them itself.
            timeout: Seconds.
            port: The port it must listen on itself: an answer there may come from a stranger who was faster.

        Raises:
            PortTakenError: when somebody else has the port.
            DevkitError: when it ended or did not answer in time; the message ends with its log.
        """

        def ready_or_dead() -> bool:
            return not self.running or ready()

        try:
            wait_until(ready_or_dead, timeout=timeout, what=f"{self.name} to be ready")
        except DevkitError as error:
            raise DevkitError(f"{error} Its log {self.log} ends with:\n{self.log_tail()}") from error
        if not self.running:
            tail = self.log_tail()
            kind = PortTakenError if "address already in use" in tail.lower() else DevkitError
            raise kind(
                f"{self.name} ended with code {self.returncode}. Its log {self.log} ends with:\n{tail}"
            )
        if port is not None and not self._listens_on(port):
            raise PortTakenError(
                f"Port {port} was taken by another process before {self.name} could listen on it."
            )

    def _listens_on(self, port: int) -> bool:
        try:
            connections = psutil.Process(self._pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)

    def _wait(self, timeout: float) -> None:
        if self._guard is not None:
            self._guard.wait(timeout)

    def _close_orders(self) -> None:
        if self._orders is not None:
            self._orders.close()
            self._orders = None
