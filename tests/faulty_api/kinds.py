"""What is served, and what a request is about."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faulty_api.storage import Path, Validate


@dataclass(frozen=True)
class Kind:
    """A kind that is served.

    Attributes:
        group: API group, ``""`` for the core group.
        version: API version.
        plural: Name in URLs.
        kind: Name in manifests.
        has_status: Whether status is a subresource.
        validate: Says what is wrong with an object.
    """

    group: str
    version: str
    plural: str
    kind: str
    has_status: bool = False
    validate: Validate = lambda _: ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True)
class Target:
    """What a request is about; without a name a collection."""

    kind: Kind
    namespace: str
    name: str
    subresource: str

    @property
    def path(self) -> Path:
        return (self.kind.group, self.kind.plural, self.namespace, self.name)

    def holds(self, path: Path) -> bool:
        return path[:2] == (self.kind.group, self.kind.plural) and self.namespace in ("", path[2])
