"""Which URLs a rollout may send users to."""

from __future__ import annotations

import ipaddress

from controller.api.reasons import Reason
from controller.core.snapshot import Problem
from controller.core.traffic import Backend


def backend_problem(backend: Backend | None, allowed_hosts: frozenset[str]) -> Problem | None:
    """Why the operator refuses this backend; None if it does not.

    Link-local addresses are where clouds keep their metadata and credentials, so no allow-list opens them.
    """
    if backend is None:
        return None
    if _is_link_local(backend.host):
        return Problem(
            Reason.BACKEND_NOT_ALLOWED,
            f"spec.agent.code.url: {backend.host} is a link-local address, which is never allowed",
        )
    if backend.host in allowed_hosts:
        return None
    way_out = (
        "use one of " + ", ".join(sorted(allowed_hosts)) + " or have it added with --allowed-url-host"
        if allowed_hosts
        else "URL backends are off; the operator opens them host by host with --allowed-url-host"
    )
    return Problem(
        Reason.BACKEND_NOT_ALLOWED, f"spec.agent.code.url: the host {backend.host} is not allowed: {way_out}"
    )


def _is_link_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_link_local
