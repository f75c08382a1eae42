"""Names of Envoy resources, and the values of the ``envoy_cluster_name`` label in Prometheus.

Every resource of a rollout starts with the rollout's ``owner`` prefix, so that a name alone tells whose it is.
"""

from __future__ import annotations

from enum import StrEnum

from controller.core.traffic import Backend

CAPTURE_KEY = "agentrollout.capture"
"""Envoy's runtime key that is 100 in a bootstrap under which captures are safe. Under an older one nothing is mirrored."""

ARTIFACT_HEADER = "x-agentrollout-artifact"
"""Tells the agent which artifact it is answering as."""

OPERATORS = "agentrollout-xds"
"""The cluster of the operator's replicas, from the bootstrap of every router."""

HTTP2 = "h2"
HTTP2_SUFFIX = f"~{HTTP2}"
"""Marks the clusters that speak HTTP/2, of which other counters are evidence; it does not reach the Prometheus label."""

AUDIENCE_SUFFIX = "~audience"
"""Marks the clusters that serve audience stages; ``~`` cannot occur in a Kubernetes name."""

CONTROL_SUFFIX = "~control"
"""Marks, with a number after it, the clusters of stable's control slices; it does not reach the Prometheus label."""

SAMPLED_SUFFIX = "~sampled"
"""Marks the clusters of stable's sampled conversations, whose counters are no evidence."""

SHADOW_SUFFIX = "~shadow"
"""Marks the cluster through which the candidate answers sampled requests, to nobody."""

NOISE_SUFFIX = "~noise"
"""Marks the cluster through which stable answers sampled requests once more, to nobody."""

RECORDER = "agentrollout-shadow"
"""The cluster of the process that compares answers."""

TUNNEL_SUFFIX = "~tunnel"
"""Marks what leads from a version's cluster to its agents where the answers of the version can be cut."""


def owner_name(key: str) -> str:
    """The prefix of all resources of the rollout ``namespace/name``, also the name of its route configuration.

    Envoy ends the cluster part of a stat name at the first dot, which would cut the Prometheus label short. ``_``
    cannot occur in a Kubernetes name, so the replacement never makes two rollouts the same.
    """
    return key.replace(".", "_")


def cluster_name(key: str, revision: str, audience: bool = False) -> str:
    """The ``envoy_cluster_name`` label in Prometheus of one revision of the rollout ``namespace/name``.

    The clusters of control slices have the label of the whole version, and one more that tells them apart.

    Args:
        key: ``namespace/name`` of the rollout.
        revision: Name of the AgentRevision.
        audience: Whether the cluster serves the audience stages instead of the general split.
    """
    return f"{owner_name(key)}/{owner_name(revision)}{AUDIENCE_SUFFIX if audience else ''}"


def upstream_name(key: str, backend: Backend, audience: bool = False) -> str:
    """The cluster of one arm as Envoy itself knows it: `cluster_name`, with the protocol where it is not HTTP/1.1."""
    return f"{cluster_name(key, backend.revision, audience)}{HTTP2_SUFFIX if backend.http2 else ''}"


def version_of(cluster: str) -> tuple[str, str]:
    """Of a cluster of everyone's, the rollout ``namespace/name`` and the revision; whichever slice and protocol it is of.

    ``_`` cannot occur in a Kubernetes name, so what stands for a dot can be told.
    """
    rollout, _, revision = cluster.partition("~")[0].replace("_", ".").rpartition("/")
    return rollout, revision


def control_name(key: str, stable: Backend, number: int) -> str:
    """The cluster of one of stable's control slices, 1 to ``CONTROL_SLICES``, as Envoy itself knows it."""
    protocol = HTTP2_SUFFIX if stable.http2 else ""
    return f"{cluster_name(key, stable.revision)}{CONTROL_SUFFIX}{number}{protocol}"


class Sampled(StrEnum):
    """What becomes of the requests of sampled conversations beside their answer by stable."""

    ONCE = ""
    """The candidate answers them too."""
    TWICE = "-noise"
    """The candidate does, and stable once more."""
    NEVER = "-unmirrored"
    """Nobody does: they are too large, or no requests with one answer."""


def sampled_name(key: str, stable: Backend, how: Sampled) -> str:
    """The cluster in which stable answers sampled conversations."""
    return f"{cluster_name(key, stable.revision)}{SAMPLED_SUFFIX}{how}"


def is_sampled(cluster: str) -> bool:
    """Whether a cluster is one of sampled conversations."""
    return SAMPLED_SUFFIX in cluster


def tunnel_name(key: str, revision: str) -> str:
    """The internal listener, and the cluster behind it, through which a candidate is reached that can be cut."""
    return f"{cluster_name(key, revision)}{TUNNEL_SUFFIX}"


def scope_name(key: str, host: str) -> str:
    """The scoped route configuration that leads ``host`` to the rollout ``namespace/name``."""
    return f"{owner_name(key)}/{host}"


def owner_of(resource: str) -> str:
    """The ``owner_name`` that the resource belongs to, read from its name."""
    return "/".join(resource.split("/", 2)[:2])


def override_key(key: str) -> str:
    """Envoy's runtime key that, at 100, sends all users of the rollout ``namespace/name`` to its stable version."""
    return f"agentrollout.{key.replace('/', '.')}.stable_only"
