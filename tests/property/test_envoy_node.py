"""The protocol against a model of Envoy: whatever happens in whichever order, routes never point to nothing."""

from __future__ import annotations

from collections import deque

from envoy.config.route.v3 import route_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.adapters.envoy.listener import listener
from controller.adapters.envoy.naming import owner_name
from controller.adapters.envoy.node import Node, Update
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import CLUSTER, LISTENER, ROUTE, SCOPE, Resource
from controller.adapters.envoy.snapshot import bundle
from controller.core.traffic import AudienceSplit, Backend, TrafficTable

OPTIONS = RouterOptions()
KEYS = ["shop/one", "shop/two"]
REVISIONS = ["a", "b", "c"]
AUDIENCE = AudienceSplit("x-user-group", ("internal",), 1_000_000)


class EnvoyModel(RuleBasedStateMachine):
    """Takes updates in order, like Envoy on one stream, and may refuse the resources named in ``dislikes``."""

    def __init__(self) -> None:
        super().__init__()
        base = listener(OPTIONS)
        self.wanted = {base.owner: base}
        self.held: dict[str, dict[str, Resource]] = {
            type_url: {} for type_url in (CLUSTER, LISTENER, SCOPE, ROUTE)
        }
        self.dislikes: set[str] = set()
        self.connect({})

    def connect(self, known: dict[str, dict[str, str]]) -> None:
        self.node = Node(self.wanted)
        self.node.name = "model"
        self.answers: deque[tuple[str, str]] = deque()
        self.incoming: deque[Update] = deque()
        for type_url in (CLUSTER, LISTENER, SCOPE):
            self.node.subscribe(type_url, (), (), known.get(type_url, {}))
            self.pump()
        if self.held[SCOPE]:
            self.node.subscribe(ROUTE, self.named(), (), known[ROUTE])
            self.pump()

    def pump(self) -> None:
        self.incoming.extend(self.node.updates())

    @initialize()
    def start(self) -> None:
        self.pump()

    @rule(
        key=st.sampled_from(KEYS),
        stable=st.sampled_from(REVISIONS),
        candidate=st.sampled_from([None, *REVISIONS]),
        weight=st.sampled_from([0, 10_000, 1_000_000]),
        audience=st.booleans(),
    )
    def publish(self, key: str, stable: str, candidate: str | None, weight: int, audience: bool) -> None:
        def backend(name: str) -> Backend:
            return Backend(name, f"sha256:{name}", "10.0.0.1", 80)

        other = backend(candidate) if candidate not in {None, stable} and candidate else None
        table = TrafficTable(
            key, (key.replace("/", "."),), "x-session-id", backend(stable), other, weight,
            (AUDIENCE,) if audience else (),
        )  # fmt: skip
        self.wanted[owner_name(key)] = bundle(table, OPTIONS)
        self.node.touch(owner_name(key))
        self.pump()

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key: str) -> None:
        self.wanted.pop(owner_name(key), None)
        self.node.touch(owner_name(key))
        self.pump()

    @rule(revision=st.sampled_from(REVISIONS))
    def dislike(self, revision: str) -> None:
        self.dislikes.add(f"shop/one/{revision}")

    @rule()
    def like_everything(self) -> None:
        self.dislikes.clear()

    @precondition(lambda self: self.incoming)
    @rule()
    def take_an_update(self) -> None:
        update = self.incoming.popleft()
        bad = [each.name for each in update.put if each.name in self.dislikes and update.type_url == CLUSTER]
        for each in update.put:
            if each.name not in bad:
                self.held[update.type_url][each.name] = each
        for name in update.removed:
            self.held[update.type_url].pop(name, None)
        self.answers.append((update.nonce, f"refused {bad}" if bad else ""))
        if update.type_url == SCOPE:
            self.follow_scopes()

    def named(self) -> list[str]:
        return sorted({"/".join(name.split("/")[:2]) for name in self.held[SCOPE]})

    def follow_scopes(self) -> None:
        """Envoy asks for the routes that scopes name, and drops the others."""
        named = self.named()
        dropped = [name for name in self.held[ROUTE] if name not in named]
        for name in dropped:
            del self.held[ROUTE][name]
        self.node.subscribe(ROUTE, named, dropped, {})
        self.pump()

    @precondition(lambda self: self.answers)
    @rule()
    def answer(self) -> None:
        self.node.acknowledge(*self.answers.popleft())
        self.pump()

    @rule()
    def reconnect(self) -> None:
        self.connect(
            {kind: {name: each.version for name, each in held.items()} for kind, held in self.held.items()}
        )

    @invariant()
    def routes_point_to_clusters_that_are_there(self) -> None:
        for resource in self.held[ROUTE].values():
            for host in route_pb2.RouteConfiguration.FromString(resource.value).virtual_hosts:
                for route in host.routes:
                    for arm in route.route.weighted_clusters.clusters:
                        assert arm.name in self.held[CLUSTER]

    def teardown(self) -> None:
        """Left alone, and with nothing disliked any more, Envoy ends up with exactly what is wanted."""
        self.dislikes.clear()
        self.reconnect()
        while self.incoming or self.answers:
            if self.incoming:
                self.take_an_update()
            else:
                self.answer()
        wanted = {
            (each.type_url, each.name): each for built in self.wanted.values() for each in built.resources
        }
        held = {(kind, name): each for kind, all_held in self.held.items() for name, each in all_held.items()}
        assert held == wanted
        assert all(self.node.holds(built) for built in self.wanted.values())


EnvoyModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEnvoyModel = EnvoyModel.TestCase
