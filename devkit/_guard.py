"""Runs one program and takes it down when whoever started it is gone.

Started as a script (``python -I -S _guard.py FD COMMAND…``), standard library only, because every process of the
devkit has one. FD is one end of a socket pair: the guard writes the program's pid to it, then reads signal numbers,
one byte each, and passes them on. End of file means that the starter died, however it died: the program gets SIGTERM
and, after a grace period, SIGKILL.

Why not only PR_SET_PDEATHSIG in the program: it fires when the *thread* that started it ends, so a program started
from a worker thread would die with the worker. Here the flag is set as well, against the death of the guard itself,
which has a single thread. Why signals go through the guard: it alone knows that the pid is not yet reaped, so a
signal never reaches a stranger that was given the same pid.
"""

import ctypes
import os
import select
import signal
import socket
import sys
import time

GRACE_SECONDS = 3.0
PR_SET_PDEATHSIG = 1


def _become_program(command: list[str], guard_pid: int) -> None:
    """Never returns: replace this fork by the program, or leave with the shell's code for "cannot run"."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard_pid:  # the guard died before the flag was set
            os._exit(1)
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
    os._exit(127)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _supervise(child: int, starter: socket.socket, wakeup: int) -> int:
    kill_at: float | None = None
    watched: list[socket.socket | int] = [starter, wakeup]
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid == child:
            return _exit_code(status)
        ready, _, _ = select.select(
            watched, [], [], None if kill_at is None else max(0, kill_at - time.monotonic())
        )
        if wakeup in ready:
            os.read(wakeup, 512)
        if starter in ready:
            try:
                orders = starter.recv(64)
            except ConnectionError:
                orders = b""
            for order in orders:
                os.kill(child, order)
            if not orders:
                watched.remove(starter)
                kill_at = time.monotonic() + GRACE_SECONDS
                os.kill(child, signal.SIGTERM)
        if kill_at is not None and time.monotonic() >= kill_at:
            os.kill(child, signal.SIGKILL)
            kill_at = time.monotonic() + GRACE_SECONDS


def main() -> int:
    """Run the command given on the command line and return its exit code (128 + signal when killed)."""
    starter = socket.socket(fileno=int(sys.argv[1]))
    starter.set_inheritable(False)
    # A byte for every SIGCHLD makes select() return without a race between checking and sleeping.
    wakeup, wakeup_in = os.pipe()
    os.set_blocking(wakeup_in, False)
    signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    guard_pid = os.getpid()
    child = os.fork()
    if child == 0:
        _become_program(sys.argv[2:], guard_pid)
    starter.sendall(f"{child}\n".encode())
    return _supervise(child, starter, wakeup)


if __name__ == "__main__":
    sys.exit(main())
