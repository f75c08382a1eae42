"""Agents that cost no Python: an Envoy that answers by itself, with faults that are set while it runs."""

import json
from pathlib import Path
from typing import Any

from devkit.envoy import Envoy
from devkit.process import LOOPBACK, free_port
from devkit.toolchain import Toolchain

_FAILURE_KEY = "devkit.failure"
_DELAY_SHARE_KEY = "devkit.delay_percent"
_DELAY_KEY = "devkit.delay_ms"


class StaticUpstream(Envoy):
    """An HTTP server with one answer, on a port of its own that a restart keeps.

    The header `x-upstream` of every answer, failures too, is `name`.

    Usage::

        with StaticUpstream("candidate") as candidate:
            candidate.set_failures(0.2)  # every fifth answer is a 500 from now on
    """

    def __init__(
        self,
        name: str,
        *,
        status: int = 200,
        body: str = "",
        failure_status: int = 500,
        concurrency: int = 1,
        directory: Path | None = None,
        toolchain: Toolchain | None = None,
    ) -> None:
        self._answer = (name, status, body or name, failure_status)
        self._port = 0
        super().__init__({}, concurrency=concurrency, directory=directory, toolchain=toolchain)

    @property
    def address(self) -> str:
        """host:port."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def port(self) -> int:
        """The port."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://{self.address}"

    def set_failures(self, fraction: float) -> None:
        """From now on answer this fraction of requests, at random and exact to a millionth, with the failure status."""
        share = {"numerator": round(fraction * 1_000_000), "denominator": "MILLION"}
        # No blanks: Envoy would read the plus signs that they become in the query string as plus signs.
        self.modify_runtime({_FAILURE_KEY: json.dumps(share, separators=(",", ":"))})

    def set_delay(self, seconds: float, *, percent: int = 100) -> None:
        """From now on answer `percent` of the requests `seconds` later (whole milliseconds; 0 is none)."""
        milliseconds = round(seconds * 1000)
        share = percent if milliseconds else 0
        self.modify_runtime({_DELAY_KEY: str(max(1, milliseconds)), _DELAY_SHARE_KEY: str(share)})

    def _choose_ports(self) -> None:
        self._port = free_port()
        self._bootstrap = _bootstrap(self._port, *self._answer)
        super()._choose_ports()


def _bootstrap(port: int, name: str, status: int, body: str, failure_status: int) -> dict[str, Any]:
    failing = {"default_value": {"numerator": 0, "denominator": "MILLION"}, "runtime_key": _FAILURE_KEY}
    routes = [
        {"match": {"prefix": "/", "runtime_fraction": failing}, **_direct(failure_status, f"{name} failed")},
        {"match": {"prefix": "/"}, **_direct(status, body)},
    ]
    manager = {
        "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "upstream",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            "response_headers_to_add": [{"header": {"key": "x-upstream", "value": name}}],
        },
        "http_filters": [_delay_filter(), _filter("router", "filters.http.router.v3.Router")],
    }
    listener = {
        "name": "upstream",
        "address": {"socket_address": {"address": LOOPBACK, "port_value": port}},
        # Or a second server could bind the same port and take half of the connections.
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "static_resources": {"listeners": [listener]},
        "layered_runtime": {
            "layers": [
                {"name": "static", "static_layer": {_DELAY_SHARE_KEY: 0, _DELAY_KEY: 1}},
                {"name": "admin", "admin_layer": {}},
            ]
        },
    }


def _delay_filter() -> dict[str, Any]:
    delay = {"fixed_delay": "0.001s", "percentage": {"numerator": 0}}
    return _filter(
        "fault",
        "filters.http.fault.v3.HTTPFault",
        delay=delay,
        delay_percent_runtime=_DELAY_SHARE_KEY,
        delay_duration_runtime=_DELAY_KEY,
    )


def _direct(status: int, body: str) -> dict[str, Any]:
    return {"direct_response": {"status": status, "body": {"inline_string": body}}}


def _filter(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": _type(kind), **settings}}


def _type(kind: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{kind}"
