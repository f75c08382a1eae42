"""Which hosts a rollout may send users to."""

from __future__ import annotations

import ipaddress
import socket

from controller.api.reasons import Reason
from controller.core.snapshot import Problem
from controller.core.traffic import Backend

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
"""Metadata services that are not link-local: of AWS over IPv6, and of Alibaba Cloud."""


def backend_problem(backend: Backend | None, allowed_hosts: frozenset[str]) -> Problem | None:
    """Why the operator refuses this backend; None if it does not. Services need no permission: they are in the namespace.

    Link-local addresses are where clouds keep their metadata and credentials, so no allow-list opens them.
    """
    if backend is None or backend.service is not None:
        return None
    if is_never_allowed(backend.host):
        return Problem(
            Reason.BACKEND_NOT_ALLOWED,
            f"spec.agent.code.url: {backend.host} is a link-local or metadata address, which is never allowed",
        )
    if backend.host in allowed_hosts:
        return None
    way_out = (
        f"allowed are {', '.join(sorted(allowed_hosts))}; the operator adds one with --allowed-url-host {backend.host}"
        if allowed_hosts
        else "URL backends are off; the operator opens them host by host with --allowed-url-host"
    )
    return Problem(
        Reason.BACKEND_NOT_ALLOWED, f"spec.agent.code.url: the host {backend.host} is not allowed: {way_out}"
    )


def is_never_allowed(host: str) -> bool:
    """Whether ``host`` is a link-local or metadata address, in whatever form."""
    address = _address(host)
    return address is not None and (address.is_link_local or address in _METADATA)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host stands for, in whatever form the system would accept it (octal, hexadecimal, mapped)."""
    try:
        address = ipaddress.ip_address(host.rstrip("."))
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
        except OSError:
            return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or (_embedded(address) if address in _NAT64 else address)
    return address


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(address.packed[-4:])
