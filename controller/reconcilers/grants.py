"""Which hosts the operator lets which namespace use."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

EVERYONE = ""
"""Stands for all namespaces."""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ANY = "*"
_SUFFIX = "*."


@dataclass(frozen=True, slots=True)
class Grants:
    """Hosts by namespace.

    Attributes:
        hosts: For each namespace, or `EVERYONE`, host names. ``*.example.com`` stands for all names that end in
            ``.example.com``, ``*`` for all names.
    """

    hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Grants:
        """From ``HOST`` for everyone and ``NAMESPACE=HOST``.

        Raises:
            ValueError: If a text is neither; the message says which and how it is written.
        """
        found: dict[str, set[str]] = defaultdict(set)
        for text in texts:
            namespace, named, host = text.rpartition("=")
            if named and not _NAMESPACE.fullmatch(namespace):
                raise ValueError(f"{namespace!r} in {text!r} is not the name of a namespace")
            if not host or "/" in host or host.count(":") == 1:
                bare = host.rpartition("://")[2].partition("/")[0].partition(":")[0]
                raise ValueError(f"{host!r} is not a host: write {bare or 'agents.internal'}")
            if _ANY in (host.removeprefix(_SUFFIX) if host != _ANY else ""):
                raise ValueError(f"{host!r}: only the beginning may be a star, as in *.shop.example.com")
            found[namespace].add(host)
        return cls({namespace: frozenset(hosts) for namespace, hosts in found.items()})

    def __bool__(self) -> bool:
        """Whether anything was granted at all."""
        return bool(self.hosts)

    def of(self, namespace: str) -> frozenset[str]:
        """What the namespace may use, patterns included."""
        return self.hosts.get(EVERYONE, frozenset()) | self.hosts.get(namespace, frozenset())

    def allow(self, namespace: str, host: str) -> bool:
        """Whether the namespace may use the host."""
        return any(
            pattern in (host, _ANY) or (pattern.startswith(_SUFFIX) and host.endswith(pattern[1:]))
            for pattern in self.of(namespace)
        )
