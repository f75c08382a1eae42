"""A Prometheus of one's own, with targets that may change while it runs."""

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from devkit.errors import DevkitError
from devkit.process import LOOPBACK, Process, free_port
from devkit.service import Service, answers
from devkit.toolchain import Toolchain

_START_TIMEOUT = 30.0


@dataclass(frozen=True)
class ScrapeJob:
    """What is scraped under one `job` label; `targets` are host:port."""

    name: str
    targets: tuple[str, ...] = ()
    path: str = "/metrics"
    labels: Mapping[str, str] = field(default_factory=dict)


class Prometheus(Service):
    """Prometheus, on loopback unless `host` is given; a restart keeps data and port.

    Usage::

        with Prometheus([ScrapeJob("envoy", (envoy.admin_address,), path="/stats/prometheus")]) as prometheus:
            prometheus.query('up{job="envoy"}')
    """

    def __init__(
        self,
        jobs: Sequence[ScrapeJob] = (),
        *,
        scrape_interval: float = 1.0,
        replica: str = "",
        web: Mapping[str, Any] | None = None,
        host: str = LOOPBACK,
        directory: Path | None = None,
        toolchain: Toolchain | None = None,
    ) -> None:
        """Scrape `jobs` every `scrape_interval` seconds (whole milliseconds).

        Those on one host scrape a target at the same instants unless they differ in `replica`, an external label.
        `web` is the content of `--web.config.file`: TLS and basic authentication of its own address. `host` is the address
        that it listens on and that its URL names: one of this machine that pods reach, say.
        """
        super().__init__("prometheus", directory)
        self._program = (toolchain or Toolchain()).find("prometheus")
        self._host = host
        self._port = 0
        self._process: Process | None = None
        self._web = web
        self._jobs = {job.name: job for job in jobs}
        for job in jobs:
            self.set_targets(job.name, job.targets, job.labels)
        self._write_configuration(scrape_interval, replica)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        scheme = "https" if self._web and "tls_server_config" in self._web else "http"
        return f"{scheme}://{self._host}:{self._port}"

    @property
    def process(self) -> Process:
        """The process, to pause or kill."""
        if self._process is None:
            raise DevkitError("Prometheus was not started yet: use it in a `with` block or call start().")
        return self._process

    def set_targets(self, job: str, targets: Sequence[str], labels: Mapping[str, str] | None = None) -> None:
        """Replace the targets (host:port) of a job, and their labels; a running Prometheus follows within a second.

        Raises:
            DevkitError: when no such job was given to the constructor.
        """
        if job not in self._jobs:
            raise DevkitError(f"Prometheus has no job {job!r}: pass it as Prometheus([ScrapeJob({job!r})]).")
        groups = [
            {"targets": list(targets), "labels": dict(self._jobs[job].labels if labels is None else labels)}
        ]
        path = self._targets_file(job)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(groups))
        partial.rename(path)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result vector of an instant query, each with `metric` and `value` as the HTTP API has them.

        Raises:
            DevkitError: when Prometheus refuses the expression or does not answer within five seconds.
        """
        try:
            answer = httpx.get(
                f"{self.url}/api/v1/query", params={"query": expression}, trust_env=False, timeout=5.0
            ).json()
        except httpx.HTTPError as error:
            raise DevkitError(f"Prometheus at {self.url} did not answer {expression!r}: {error}") from error
        if answer["status"] != "success":
            raise DevkitError(f"Prometheus refuses {expression!r}: {answer['error']}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def stop(self) -> None:
        """Stop it; samples are kept."""
        if self._process is not None:
            self._process.stop()

    def _choose_ports(self) -> None:
        self._port = free_port()
        command: list[str | Path] = [
            self._program,
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self._host}:{self._port}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ]
        if self._web:
            web = self.directory / "web.yml"
            web.write_text(json.dumps(self._web))
            command.append(f"--web.config.file={web}")
        self._process = Process("prometheus", command, self.directory)

    def _launch(self) -> None:
        self.process.start()
        self.process.wait_ready(self._is_ready, timeout=_START_TIMEOUT, port=self._port)

    def _is_ready(self) -> bool:
        """Whether it answers; where it asks who is there, whether it listens."""
        if self._web is None:
            return answers(f"{self.url}/-/ready")
        try:
            socket.create_connection((self._host, self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def _targets_file(self, job: str) -> Path:
        return self.directory / f"targets-{job}.json"

    def _write_configuration(self, scrape_interval: float, replica: str) -> None:
        interval = f"{round(scrape_interval * 1000)}ms"
        configuration = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
                "external_labels": {"replica": replica} if replica else {},
            },
            "scrape_configs": [
                {
                    "job_name": job.name,
                    "metrics_path": job.path,
                    "file_sd_configs": [
                        {"files": [str(self._targets_file(job.name))], "refresh_interval": "1s"}
                    ],
                }
                for job in self._jobs.values()
            ],
        }
        (self.directory / "prometheus.yml").write_text(json.dumps(configuration, indent=2))  # JSON is YAML
