"""Names of things in the Kubernetes API: resources, object keys, resourceVersions, URL paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

RawObject = dict[str, Any]
"""An object as it came from JSON."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and where the API serves it.

    Attributes:
        group: API group, ``""`` for the core group.
        version: API version, such as ``v1``.
        plural: Name in URLs, lower case, such as ``configmaps``.
        kind: Name in manifests, such as ``ConfigMap``.
        namespaced: Whether its objects live in namespaces.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def name(self) -> str:
        """``plural.group``, the way kubectl and RBAC name it; for logs and metric labels."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """URL path of the collection (over all namespaces without ``namespace``), object or subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


def object_key(namespace: str, name: str) -> str:
    """``namespace/name``, or ``name`` alone for a cluster-scoped object."""
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str, str]:
    """``(namespace, name)`` of a key; the namespace is ``""`` for a cluster-scoped object."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def key_of(raw: Mapping[str, Any]) -> str:
    """The key of an object from the API.

    Raises:
        ValueError: It has no name.
    """
    metadata = raw.get("metadata") or {}
    name = metadata.get("name")
    if not name:
        raise ValueError("an object without metadata.name")
    return object_key(metadata.get("namespace") or "", name)


def uid_of(raw: Mapping[str, Any]) -> str:
    """The uid of an object; ``""`` if it has none."""
    return str((raw.get("metadata") or {}).get("uid") or "")


def resource_version_of(raw: Mapping[str, Any]) -> int:
    """The resourceVersion of an object or list, as the number that orders it among others of its resource.

    Raises:
        ValueError: It has none, or one that is no number.
    """
    value = (raw.get("metadata") or {}).get("resourceVersion")
    if not isinstance(value, str) or not value.isdecimal():
        raise ValueError(f"resourceVersion {value!r} is not a decimal number")
    return int(value)
