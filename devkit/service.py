"""What every server of the devkit has in common: a directory, ports, a start that waits, a stop that cleans."""

import shutil
import ssl
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from devkit.errors import PortTakenError
from devkit.instances import create_directory

_START_ATTEMPTS = 5


def answers(url: str, *, verify: ssl.SSLContext | bool = False, token: str | None = None) -> bool:
    """Return whether `url` answers with a 2xx status within a second; a refused or cut connection is a no."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        # trust_env=False: a proxy of the user must not be asked for loopback.
        with httpx.Client(verify=verify, trust_env=False, timeout=1.0, headers=headers) as client:
            return client.get(url).is_success
    except httpx.HTTPError:
        return False


class Service(ABC):
    """A local server as a synchronous context manager; `start`, `stop` and `restart` may be called any number of times.

    Ports are chosen at the first start and kept from then on, so that a restarted server is found where it was.
    """

    def __init__(self, name: str, directory: Path | None) -> None:
        """Take `directory` (left in place afterwards) or a new one that is removed by `close`."""
        self.name = name
        self._owns_directory = directory is None
        self.directory = create_directory(name) if directory is None else directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self._started_before = False

    @abstractmethod
    def _choose_ports(self) -> None:
        """Choose fresh ports and write whatever depends on them."""

    @abstractmethod
    def _launch(self) -> None:
        """Start the processes and wait until they answer; raise PortTakenError to be called again."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the server and wait until it is gone; its data and ports are kept for the next `start`."""

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            DevkitError: when it does not come up; the message ends with its log.
        """
        for attempt in range(1, _START_ATTEMPTS + 1):
            if not self._started_before:
                self._choose_ports()
            try:
                self._launch()
            except PortTakenError:
                self.stop()
                if attempt == _START_ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                self._started_before = True
                break
        return self

    def restart(self) -> None:
        """Stop and start with the same data and ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and remove the directory that was made for it."""
        self.stop()
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
