"""Directories of what runs now, one per server, so that `status` and `down` find them and the dead are swept."""

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs
import psutil

_OWNER_FILE = "owner.json"


@dataclass(frozen=True)
class Instance:
    """A directory and the process that answers for it; `command` is "up" for what `devkit up` started."""

    directory: Path
    pid: int
    started: (
        float  # seconds since the epoch, as the kernel tells it: a pid alone may be somebody else's by now
    )
    command: str

    @property
    def name(self) -> str:
        """The directory's last part; unique on this machine."""
        return self.directory.name

    @property
    def alive(self) -> bool:
        """Whether the process that made it still runs; one that ended and that nobody waited for does not."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        return False


def root() -> Path:
    """Return where the directories are: `$XDG_STATE_HOME/agentrollout/devkit` or `~/.local/state/…`."""
    return platformdirs.user_state_path("agentrollout", appauthor=False) / "devkit"


def create_directory(label: str, *, command: str = "") -> Path:
    """Make a directory owned by this process, named `label` and something unique, and sweep dead ones."""
    living()
    directory = root() / f"{label}-{secrets.token_hex(3)}"
    directory.mkdir(parents=True)
    me = psutil.Process(os.getpid())
    instance = Instance(directory, me.pid, me.create_time(), command)
    record = asdict(instance) | {"directory": str(directory)}
    partial = directory / f"{_OWNER_FILE}.partial"
    partial.write_text(json.dumps(record))
    partial.rename(directory / _OWNER_FILE)
    return directory


def living() -> list[Instance]:
    """Return what runs now, oldest first; directories whose process is gone are removed on the way."""
    found: list[Instance] = []
    for directory in sorted(root().glob("*/")):
        try:
            record = json.loads((directory / _OWNER_FILE).read_text())
        except FileNotFoundError:
            continue  # being made, or being removed, by another process right now
        instance = Instance(directory, record["pid"], record["started"], record["command"])
        if instance.alive:
            found.append(instance)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return sorted(found, key=lambda each: each.started)
