"""Where a rollout may send users to, and what stands there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.api.reasons import Reason
from controller.core.snapshot import Endpoints, Problem
from controller.core.traffic import Backend
from controller.reconcilers.addresses import is_never_allowed
from controller.reconcilers.grants import Grants
from controller.reconcilers.images import PodImages
from controller.reconcilers.services import ServiceEndpoints


def backend_problem(backend: Backend | None, namespace: str, urls: Grants) -> Problem | None:
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
    if urls.allow(namespace, backend.host):
        return None
    allowed = urls.of(namespace)
    way_out = (
        f"allowed are {', '.join(sorted(allowed))}; the operator adds one with --allowed-url-host "
        f"{namespace}={backend.host}"
        if allowed
        else "URL backends are off here; the operator opens them host by host with --allowed-url-host"
    )
    return Problem(
        Reason.BACKEND_NOT_ALLOWED,
        f"spec.agent.code.url: the host {backend.host} is not allowed in namespace {namespace}: {way_out}",
    )


def host_problem(hosts: list[str], namespace: str, claims: Grants) -> Problem | None:
    """Why the operator refuses that these hosts are served; None if it does not."""
    refused = next((host for host in hosts if claims and not claims.allow(namespace, host)), None)
    if refused is None:
        return None
    allowed = ", ".join(sorted(claims.of(namespace))) or "none"
    return Problem(
        Reason.HOST_NOT_ALLOWED,
        f"spec.traffic.envoy.hosts: namespace {namespace} may not serve {refused}: allowed are {allowed}; the operator "
        f"adds one with --allowed-host {namespace}={refused}",
    )


@dataclass(frozen=True, slots=True)
class Backends:
    """What is known about backends.

    Attributes:
        urls: Which hosts the URLs of which namespace may name.
        services: Services and their endpoints.
        images: What the pods behind them run.
    """

    urls: Grants
    services: ServiceEndpoints
    images: PodImages

    def problem(self, backend: Backend | None, namespace: str) -> Problem | None:
        """Why no user may be sent there; None if they may."""
        if backend is not None and backend.service is not None:
            return self.services.problem(backend.service)
        return backend_problem(backend, namespace, self.urls)

    def endpoints(self, backend: Backend | None) -> Endpoints | None:
        """What stands behind the backend; None if it is no Service."""
        if backend is None or backend.service is None:
            return None
        images = self.images.images(backend.service)
        found = self.services.summary(backend.service)
        return replace(found, images=images.digests, images_problem=images.problem)
