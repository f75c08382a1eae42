"""Envoy as a local process."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from devkit.errors import DevkitError
from devkit.process import LOOPBACK, Process, free_port, wait_until
from devkit.service import Service, answers
from devkit.toolchain import Toolchain

_START_TIMEOUT = 30.0


class Envoy(Service):
    """One Envoy with its admin interface on loopback; a restart keeps the admin port.

    An Envoy whose xDS server does not answer stays in initialisation: start it with `wait_live=False` and call
    `wait_live()` later.

    Usage::

        with Envoy(bootstrap, concurrency=1) as envoy:
            httpx.get(f"http://{envoy.listener_address('ingress')}/")
    """

    def __init__(
        self,
        bootstrap: Mapping[str, Any],
        *,
        concurrency: int = 1,
        wait_live: bool = True,
        drain_seconds: int = 600,
        directory: Path | None = None,
        toolchain: Toolchain | None = None,
    ) -> None:
        """Take a bootstrap (in its JSON form); `concurrency` is worker threads.

        `drain_seconds` is how long connections outlive a listener that is removed.

        Where it has no `admin`, one on a free port of loopback is added; one that it has must be on loopback too.
        """
        super().__init__("envoy", directory)
        self._bootstrap = dict(bootstrap)
        self._concurrency = concurrency
        self._wait_at_start = wait_live
        self._drain_seconds = drain_seconds
        self._program = (toolchain or Toolchain()).find("envoy")
        self._admin_port = 0
        self._process: Process | None = None

    @property
    def admin_address(self) -> str:
        """host:port of the admin interface, where `/stats/prometheus` is."""
        return f"{LOOPBACK}:{self._admin_port}"

    @property
    def admin_url(self) -> str:
        """The admin interface, without a slash at the end."""
        return f"http://{self.admin_address}"

    @property
    def process(self) -> Process:
        """The process, to pause or kill."""
        if self._process is None:
            raise DevkitError("Envoy was not started yet: use it in a `with` block or call start().")
        return self._process

    @property
    def live(self) -> bool:
        """Whether it has all its configuration and serves."""
        return answers(f"{self.admin_url}/ready")

    def wait_live(self, timeout: float = _START_TIMEOUT) -> None:
        """Wait until it serves.

        Raises:
            DevkitError: when it ended or is still initialising after `timeout` seconds.
        """
        self.process.wait_ready(lambda: self.live, timeout=timeout)

    def listener_address(self, name: str, timeout: float = 10.0) -> str:
        """Return host:port of a listener, waiting for it: needed when the bootstrap or LDS says port 0.

        Raises:
            DevkitError: when there is no such listener after `timeout` seconds.
        """
        found: list[str] = []

        def there() -> bool:
            listeners = self.admin_get("/listeners", format="json").json().get("listener_statuses", [])
            addresses = {each["name"]: each["local_address"].get("socket_address") for each in listeners}
            if addresses.get(name):
                found.append(f"{addresses[name]['address']}:{addresses[name]['port_value']}")
            return bool(found)

        wait_until(there, timeout=timeout, what=f"Envoy's listener {name!r}")
        return found[0]

    def admin_get(self, path: str, **parameters: str) -> httpx.Response:
        """GET from the admin interface."""
        return self._admin("GET", path, parameters)

    def admin_post(self, path: str, **parameters: str) -> httpx.Response:
        """POST to the admin interface, which is how it is told to change something."""
        return self._admin("POST", path, parameters)

    def modify_runtime(self, values: Mapping[str, str]) -> None:
        """Override runtime keys in one atomic step until the next restart; an empty string takes one back."""
        self.admin_post("/runtime_modify", **values)

    def counters(self, prefix: str) -> dict[str, int]:
        """Return counters and gauges whose name begins with `prefix`."""
        stats = self.admin_get("/stats", format="json", filter=f"^{prefix}").json()["stats"]
        return {each["name"]: each["value"] for each in stats if "value" in each}

    def stop(self) -> None:
        """Stop it at once, without draining."""
        if self._process is not None:
            self._process.stop()

    def _choose_ports(self) -> None:
        free = {"address": {"socket_address": {"address": LOOPBACK, "port_value": free_port()}}}
        bootstrap = {"admin": free} | self._bootstrap
        self._admin_port = bootstrap["admin"]["address"]["socket_address"]["port_value"]
        path = self.directory / "bootstrap.json"
        path.write_text(json.dumps(bootstrap, indent=2))
        command: list[str | Path] = [
            self._program,
            "--config-path",
            path,
            "--concurrency",
            str(self._concurrency),
            # Hot restart is what base ids and shared memory are for; without it instances share nothing.
            "--disable-hot-restart",
            "--drain-time-s",
            str(self._drain_seconds),
            "--log-level",
            "warning",
        ]
        self._process = Process("envoy", command, self.directory)

    def _launch(self) -> None:
        self.process.start()
        self.process.wait_ready(
            lambda: answers(f"{self.admin_url}/server_info"), timeout=_START_TIMEOUT, port=self._admin_port
        )
        if self._wait_at_start:
            self.wait_live()

    def _admin(self, method: str, path: str, parameters: Mapping[str, str]) -> httpx.Response:
        try:
            response = httpx.request(
                method, f"{self.admin_url}{path}", params=dict(parameters), trust_env=False, timeout=10.0
            )
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise DevkitError(f"Envoy's admin interface refused {method} {path}: {error}") from error
        return response
