"""What one connected Envoy holds, and what it has to be sent next: the delta xDS protocol without any I/O.

Make before break: clusters go out first, what refers to them once Envoy has taken them, and a cluster goes away
only after the routes without it were taken. A cluster whose endpoints come from a Service is cold until Envoy has
taken its assignment, be it empty: Envoy acknowledges such a cluster before it is ready, so routes wait for both.
What a tunnel consists of goes out before the clusters that lead into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.adapters.envoy.naming import TUNNEL_SUFFIX, owner_of
from controller.adapters.envoy.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTE,
    SCOPE,
    SENDING_ORDER,
    WILDCARD_TYPES,
    Bundle,
    Resource,
)

Name = tuple[str, str]
"""Type URL and name of a resource."""


@dataclass(frozen=True, slots=True)
class Update:
    """One delta response: resources of one type to put and names to remove."""

    type_url: str
    put: tuple[Resource, ...]
    removed: tuple[str, ...]
    nonce: str


@dataclass(slots=True)
class _Holding:
    """The resources of one owner as one Envoy knows them."""

    sent: dict[Name, str] = field(default_factory=dict)
    acked: dict[Name, str] = field(default_factory=dict)
    refused: dict[Name, tuple[str, str]] = field(default_factory=dict)

    def pending(self, resource: Resource) -> bool:
        """Whether the resource still has to be sent."""
        name = (resource.type_url, resource.name)
        refusal = self.refused.get(name)
        return self.sent.get(name) != resource.version and (refusal is None or refusal[0] != resource.version)

    def has(self, resource: Resource) -> bool:
        """Whether Envoy has taken this very version."""
        return self.acked.get((resource.type_url, resource.name)) == resource.version

    def names(self, type_url: str) -> list[str]:
        """What was sent of one type and not taken back."""
        return [name for held_type, name in self.sent if held_type == type_url]


class Node:
    """State of one delta ADS stream.

    Attributes:
        name: Node id that Envoy gave; empty before its first request.
        live: Whether it came with configuration, and so may be serving something older than the wanted.
    """

    def __init__(self, wanted: Mapping[str, Bundle]) -> None:
        self.name = ""
        self.live = False
        self._wanted = wanted
        self._holdings: dict[str, _Holding] = {}
        self._subscribed: set[str] = set()
        self._asked: dict[str, set[str]] = {
            each: set() for each in SENDING_ORDER if each not in WILDCARD_TYPES
        }
        self._cold: set[str] = set()
        self._greeted: set[str] = set()
        self._dirty: set[str] = set()
        self._alone: set[Name] = set()
        self._in_flight: dict[str, Update] = {}
        self._count = 0

    @property
    def described(self) -> bool:
        """Whether it has told which routes it holds; a reconnecting Envoy names them last."""
        return ROUTE in self._subscribed

    def touch(self, owner: str) -> None:
        """The wanted bundle of ``owner`` has changed."""
        self._dirty.add(owner)

    def subscribe(
        self, type_url: str, names: Iterable[str], dropped: Iterable[str], known: Mapping[str, str]
    ) -> None:
        """Take in the subscription part of a request.

        Args:
            type_url: xDS type.
            names: Resources subscribed to (of importance where it asks by name; of the other types Envoy gets all).
            dropped: Resources no longer wanted.
            known: Versions that Envoy still has from an earlier stream.
        """
        for name, version in known.items():
            self.live = True
            if type_url == ENDPOINTS and name in self._cold:
                continue  # its cluster has changed since
            holding = self._holding(owner_of(name))
            holding.sent[type_url, name] = holding.acked[type_url, name] = version
        if type_url not in self._subscribed:
            self._subscribed.add(type_url)
            self._dirty.update(self._wanted, self._holdings)
            if known:
                self._greeted.add(type_url)
        if type_url not in WILDCARD_TYPES:
            names = set(names)
            self._asked[type_url] |= names
            self._dirty.update(owner_of(name) for name in names)
            if type_url == ENDPOINTS:
                self._cool(names - known.keys())
        for name in dropped:
            self._forget(type_url, name)

    def acknowledge(self, nonce: str, refusal: str = "") -> set[str]:
        """Take in the answer to an update; the owners it concerns."""
        update = self._in_flight.pop(nonce, None)
        if update is None:
            return set()
        names = [each.name for each in update.put] + list(update.removed)
        if not refusal:
            self._take(update)
        elif len(names) > 1:
            # Which of them Envoy disliked is known only by its prose; asking one at a time is exact.
            self._alone.update((update.type_url, name) for name in names)
            self._unsend(update)
        else:
            self._unsend(update)
            for each in update.put:
                self._holding(owner_of(each.name)).refused[update.type_url, each.name] = (
                    each.version,
                    refusal,
                )
        owners = {owner_of(name) for name in names}
        self._dirty |= owners
        return owners

    def updates(self) -> list[Update]:
        """All that can be sent now, in the order in which it must arrive."""
        hold_scopes = SCOPE not in self._greeted and not self._settled()
        ready = self._subscribed - ({SCOPE} if hold_scopes else set())
        owners = sorted(self._dirty)
        if ready == self._subscribed:
            self._dirty.clear()
        result: list[Update] = []
        for type_url in (each for each in SENDING_ORDER if each in ready):
            put = [each for owner in owners for each in self._to_put(owner, type_url)]
            removed = [name for owner in owners for name in self._to_remove(owner, type_url)]
            result += self._batches(type_url, put, removed)
        return result

    def holds(self, bundle: Bundle) -> bool:
        """Whether Envoy has taken all of ``bundle`` and serves no host beyond it."""
        holding = self._holdings.get(bundle.owner)
        if holding is None:
            return not bundle.resources
        beyond = {name for kind, name in holding.acked if kind in (SCOPE, ROUTE)}
        beyond -= {each.name for each in bundle.resources}
        return not beyond and all(holding.has(each) for each in bundle.resources)

    def was_sent_routes(self, owner: str) -> bool:
        """Whether Envoy may already be serving ``owner``."""
        holding = self._holdings.get(owner)
        return holding is not None and bool(holding.names(ROUTE))

    def refusal(self, bundle: Bundle) -> str:
        """Envoy's words about the first resource of ``bundle`` that it refused."""
        holding = self._holdings.get(bundle.owner)
        if holding is None:
            return ""
        for each in (*bundle.resources, *bundle.endpoints):
            version, words = holding.refused.get((each.type_url, each.name), ("", ""))
            if version == each.version:
                return words
        return ""

    def _holding(self, owner: str) -> _Holding:
        return self._holdings.setdefault(owner, _Holding())

    def _bundle(self, owner: str) -> Bundle:
        return self._wanted.get(owner) or Bundle(owner, ())

    def _settled(self) -> bool:
        """Whether every cluster and listener was taken or refused: the first scopes make Envoy serve, so nothing may be missing."""
        for bundle in self._wanted.values():
            holding = self._holding(bundle.owner)
            foundations = _foundations(bundle)
            if any((each.type_url, each.name) in holding.refused for each in foundations):
                continue  # nothing of this rollout will be routed to
            if not all(holding.has(each) for each in foundations):
                return False
            for each in bundle.endpoints:
                if (ENDPOINTS, each.name) not in holding.acked.keys() | holding.refused.keys():
                    return False
        return True

    def _warm(self, bundle: Bundle, holding: _Holding) -> bool:
        """Whether everything may be routed to: the newest endpoints need not be there, but some must be."""
        return all(holding.has(each) for each in _foundations(bundle)) and all(
            (ENDPOINTS, each.name) in holding.acked for each in bundle.endpoints
        )

    def _tunnelled(self, bundle: Bundle, holding: _Holding) -> bool:
        """Whether clusters may lead into the tunnels, perhaps instead of to the agents: from then on users go there."""
        return all(holding.has(each) for each in bundle.resources if _is_tunnel(each)) and all(
            (ENDPOINTS, each.name) in holding.acked for each in bundle.endpoints if _is_tunnel(each)
        )

    def _cool(self, clusters: Iterable[str]) -> None:
        """Envoy waits for the assignments of these clusters, whichever it had before."""
        for name in clusters:
            self._cold.add(name)
            self._holding(owner_of(name)).acked.pop((ENDPOINTS, name), None)

    def _to_put(self, owner: str, type_url: str) -> list[Resource]:
        bundle, holding = self._bundle(owner), self._holding(owner)
        if type_url in (SCOPE, ROUTE) and not self._warm(bundle, holding):
            return []
        cold = self._cold if type_url == ENDPOINTS else ()
        put = [each for each in bundle.of_type(type_url) if holding.pending(each) or each.name in cold]
        if type_url not in WILDCARD_TYPES:
            put = [each for each in put if each.name in self._asked[type_url]]
        if type_url == CLUSTER and not self._tunnelled(bundle, holding):
            put = [each for each in put if _is_tunnel(each)]
        return put

    def _to_remove(self, owner: str, type_url: str) -> list[str]:
        bundle, holding = self._bundle(owner), self._holding(owner)
        if type_url not in WILDCARD_TYPES or (
            type_url in (CLUSTER, LISTENER) and not self._foundations_removable(bundle, holding)
        ):
            return []
        keep = {each.name for each in bundle.of_type(type_url)}
        return [name for name in holding.names(type_url) if name not in keep]

    def _foundations_removable(self, bundle: Bundle, holding: _Holding) -> bool:
        if ROUTE not in self._subscribed:
            # A reconnected Envoy lists its clusters before its routes.
            return not self.live
        if not bundle.resources:
            return not holding.names(SCOPE) and not holding.names(ROUTE)
        return self._warm(bundle, holding) and all(holding.has(each) for each in bundle.of_type(ROUTE))

    def _batches(self, type_url: str, put: list[Resource], removed: list[str]) -> list[Update]:
        together: list[tuple[list[Resource], list[str]]] = []
        rest = [each for each in put if (type_url, each.name) not in self._alone]
        rest_removed = [name for name in removed if (type_url, name) not in self._alone]
        first = type_url in WILDCARD_TYPES and type_url not in self._greeted
        if rest or rest_removed or (first and not put):
            together.append((rest, rest_removed))
        together += [([each], []) for each in put if (type_url, each.name) in self._alone]
        together += [([], [name]) for name in removed if (type_url, name) in self._alone]
        self._greeted.add(type_url)
        return [self._send(type_url, *batch) for batch in together]

    def _send(self, type_url: str, put: list[Resource], removed: list[str]) -> Update:
        self._count += 1
        update = Update(type_url, tuple(put), tuple(removed), str(self._count))
        for each in put:
            holding = self._holding(owner_of(each.name))
            holding.sent[type_url, each.name] = each.version
            holding.refused.pop((type_url, each.name), None)
        for name in removed:
            self._holding(owner_of(name)).sent.pop((type_url, name), None)
        if type_url == CLUSTER:
            self._cool(each.name for each in put if self._takes_endpoints(each.name))
        elif type_url == ENDPOINTS:
            self._cold.difference_update(each.name for each in put)
        self._in_flight[update.nonce] = update
        return update

    def _takes_endpoints(self, cluster: str) -> bool:
        return any(each.name == cluster for each in self._bundle(owner_of(cluster)).endpoints)

    def _take(self, update: Update) -> None:
        for each in update.put:
            if update.type_url == ENDPOINTS and (
                each.name in self._cold or each.name not in self._asked[ENDPOINTS]
            ):
                continue  # the cluster that took it is gone or is to be another one
            self._holding(owner_of(each.name)).acked[update.type_url, each.name] = each.version
            self._alone.discard((update.type_url, each.name))
        for name in update.removed:
            holding = self._holding(owner_of(name))
            if (update.type_url, name) not in holding.sent:
                self._forget(update.type_url, name)
            self._alone.discard((update.type_url, name))
        if update.removed and update.type_url == SCOPE:
            self._retry_scopes()

    def _retry_scopes(self) -> None:
        """A scope is refused while another one has its host; that one may just have gone."""
        for owner, holding in self._holdings.items():
            for name in [name for name in holding.refused if name[0] == SCOPE]:
                del holding.refused[name]
                self._dirty.add(owner)

    def _unsend(self, update: Update) -> None:
        for name in [each.name for each in update.put] + list(update.removed):
            holding = self._holding(owner_of(name))
            before = holding.acked.get((update.type_url, name))
            if before is None:
                holding.sent.pop((update.type_url, name), None)
            else:
                holding.sent[update.type_url, name] = before

    def _forget(self, type_url: str, name: str) -> None:
        owner = owner_of(name)
        holding = self._holding(owner)
        holding.sent.pop((type_url, name), None)
        holding.acked.pop((type_url, name), None)
        holding.refused.pop((type_url, name), None)
        if type_url not in WILDCARD_TYPES:
            self._asked[type_url].discard(name)
        if type_url in (CLUSTER, ENDPOINTS):
            self._cold.discard(name)
        self._dirty.add(owner)
        if not holding.sent and not holding.acked and owner not in self._wanted:
            del self._holdings[owner]


def _foundations(bundle: Bundle) -> list[Resource]:
    """What has to be there before routes refer to it, directly or not."""
    return [each for each in bundle.resources if each.type_url in (CLUSTER, LISTENER)]


def _is_tunnel(resource: Resource) -> bool:
    return resource.name.endswith(TUNNEL_SUFFIX)
