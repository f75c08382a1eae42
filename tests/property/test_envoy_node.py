"""The protocol against a model of Envoy: whatever happens in whichever order, routes never point to nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controller.adapters.envoy.listener import listener
from controller.adapters.envoy.naming import TUNNEL_SUFFIX, owner_name
from controller.adapters.envoy.node import Node, Update
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTE, SCOPE, Resource
from controller.adapters.envoy.snapshot import bundle
from controller.core.traffic import AudienceSplit, Backend, Endpoint, ServicePort, TrafficTable

OPTIONS = [RouterOptions(), RouterOptions(connect_timeout=timedelta(seconds=3))]
KEYS = ["shop/one", "shop/two"]
REVISIONS = ["a", "b", "c", "d"]
SERVICES = {"c": ServicePort("shop/c", 80), "d": ServicePort("shop/d", 80)}
"""These revisions are Services, the others addresses."""
AUDIENCE = AudienceSplit("x-user-group", ("internal",), 1_000_000)


def is_eds(cluster: Resource) -> bool:
    return bool(cluster_pb2.Cluster.FromString(cluster.value).type == cluster_pb2.Cluster.EDS)


def tunnel_entered(cluster: Resource) -> str:
    """The internal listener that a cluster leads to; empty where it leads to agents."""
    found = cluster_pb2.Cluster.FromString(cluster.value).load_assignment.endpoints[0].lb_endpoints[0]
    return str(found.endpoint.address.envoy_internal_address.server_listener_name)


class EnvoyModel(RuleBasedStateMachine):
    """Takes updates in order, like Envoy on one stream, and may refuse the resources named in ``dislikes``.

    A cluster that takes its endpoints from a Service is ``warming`` until an assignment comes after it; meanwhile an
    older cluster of the name goes on. ``entered`` says into which tunnel a cluster that serves leads.
    """

    def __init__(self) -> None:
        super().__init__()
        base = listener(OPTIONS[0])
        self.options = OPTIONS[0]
        self.tables: dict[str, TrafficTable] = {}
        self.pods: dict[ServicePort, tuple[Endpoint, ...]] = {}
        self.wanted = {base.owner: base}
        self.held: dict[str, dict[str, Resource]] = {
            type_url: {} for type_url in (CLUSTER, ENDPOINTS, LISTENER, SCOPE, ROUTE)
        }
        self.warming: set[str] = set()
        self.serving: set[str] = set()
        self.entered: dict[str, str] = {}
        self.dislikes: set[str] = set()
        self.disliked: set[str] = set()
        self.cut_off: set[str] = set()
        self.connect({}, endpoints_last=False)

    def connect(self, known: dict[str, dict[str, str]], *, endpoints_last: bool) -> None:
        self.node = Node(self.wanted)
        self.node.name = "model"
        self.answers: deque[tuple[str, str]] = deque()
        self.asking: deque[tuple[set[str], set[str]]] = deque()
        self.incoming: deque[Update] = deque()
        self.asked = {name for name, each in self.held[CLUSTER].items() if is_eds(each)}
        names = {ENDPOINTS: self.asked, ROUTE: self.named()}
        order = [CLUSTER, ENDPOINTS, LISTENER, SCOPE, ROUTE]
        if endpoints_last:
            order.append(order.pop(1))
        for type_url in order:
            if type_url not in names or names[type_url]:
                self.node.subscribe(type_url, names.get(type_url, ()), (), known.get(type_url, {}))
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
        cut=st.booleans(),
    )
    def publish(
        self, key: str, stable: str, candidate: str | None, weight: int, audience: bool, cut: bool
    ) -> None:
        def backend(name: str) -> Backend:
            return Backend(name, f"sha256:{name}", "10.0.0.1", 80, service=SERVICES.get(name))

        other = backend(candidate) if candidate not in {None, stable} and candidate else None
        table = TrafficTable(
            key, (key.replace("/", "."),), "x-session-id", backend(stable), other, weight,
            (AUDIENCE,) if audience else (), cut_on_rollback=cut,
        )  # fmt: skip
        self.tables[key] = table
        self.want(key)
        self.node.touch(owner_name(key))
        self.pump()

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def change_what_serves(self, data: st.DataObject) -> None:
        """From rest: a candidate that serves may be cut from now on, or no longer; it is promoted, or taken back."""
        self.come_to_rest()
        key = data.draw(st.sampled_from(sorted(self.tables)))
        table = self.tables[key]
        other = replace(table, cut_on_rollback=not table.cut_on_rollback)
        promoted = replace(table.without_candidate(), stable=table.candidate or table.stable)
        self.tables[key] = data.draw(st.sampled_from([other, promoted, table.without_candidate()]))
        self.want(key)
        self.node.touch(owner_name(key))
        self.pump()

    def want(self, key: str) -> None:
        self.wanted[owner_name(key)] = bundle(
            self.tables[key], self.options, lambda service: self.pods.get(service, ())
        )

    @rule(revision=st.sampled_from(sorted(SERVICES)), pods=st.integers(0, 3))
    def pods_come_and_go(self, revision: str, pods: int) -> None:
        """Only endpoints are sent, unless something else is still waiting to be."""
        self.pods[SERVICES[revision]] = tuple(Endpoint(f"10.0.0.{n}", 8080) for n in range(pods))
        for key in self.tables:
            self.want(key)
            self.node.touch(owner_name(key))
        before = len(self.incoming)
        self.pump()
        assert {update.type_url for update in list(self.incoming)[before:]} <= {ENDPOINTS}

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key: str) -> None:
        self.tables.pop(key, None)
        self.wanted.pop(owner_name(key), None)
        self.node.touch(owner_name(key))
        self.pump()

    @rule(revision=st.sampled_from(REVISIONS), suffix=st.sampled_from(["", TUNNEL_SUFFIX, "~control3"]))
    def dislike(self, revision: str, suffix: str) -> None:
        self.dislikes.add(f"shop/one/{revision}{suffix}")
        self.disliked |= self.dislikes

    @rule()
    def like_everything(self) -> None:
        self.dislikes.clear()

    @precondition(lambda self: self.incoming)
    @rule()
    def take_an_update(self) -> None:
        update = self.incoming.popleft()
        can_refuse = update.type_url in (CLUSTER, ENDPOINTS, LISTENER)
        bad = [each.name for each in update.put if each.name in self.dislikes and can_refuse]
        good = [each for each in update.put if each.name not in bad]
        self.held[update.type_url].update({each.name: each for each in good})
        for name in update.removed:
            self.held[update.type_url].pop(name, None)
        self.answers.append((update.nonce, f"refused {bad}" if bad else ""))
        if update.type_url == SCOPE:
            self.follow_scopes()
        elif update.type_url == CLUSTER:
            self.follow_clusters(good, update.removed)
        elif update.type_url == ENDPOINTS:
            warmed = {each.name for each in good} & self.warming
            self.warming -= warmed
            self.serving |= warmed
            self.entered.update(dict.fromkeys(warmed, ""))

    def follow_clusters(self, put: Iterable[Resource], removed: Iterable[str]) -> None:
        """Envoy asks for the endpoints of new clusters, later than it acknowledges them; for those it has not again."""
        eds = {each.name for each in put if is_eds(each)}
        ready = {each.name for each in put} - eds
        gone = set(removed)
        self.warming = (self.warming | eds) - gone - ready
        self.serving = (self.serving | ready) - gone
        self.entered.update({each.name: tunnel_entered(each) for each in put if each.name in ready})
        # One that no longer takes its endpoints from a Service gives them up, like one that is gone.
        done = (gone | ready) & self.asked
        self.asking.append((eds - self.asked, done))
        self.asked = (self.asked | eds) - done
        for name in gone | ready:
            self.held[ENDPOINTS].pop(name, None)

    @precondition(lambda self: self.asking)
    @rule()
    def ask_for_endpoints(self) -> None:
        self.node.subscribe(ENDPOINTS, *self.asking.popleft(), {})
        self.pump()

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

    @rule(endpoints_last=st.booleans(), options=st.sampled_from(OPTIONS))
    def reconnect(self, endpoints_last: bool, options: RouterOptions) -> None:
        """Perhaps to an operator whose clusters are a little different."""
        self.options = options
        for key in self.tables:
            self.want(key)
        known = {
            kind: {name: each.version for name, each in held.items()} for kind, held in self.held.items()
        }
        # The operator cannot see that these still wait for the assignment that the stream broke off before. After 15 s
        # Envoy gives them what the cluster before had, which goes on until then.
        self.cut_off |= self.warming & self.held[ENDPOINTS].keys()
        self.connect(known, endpoints_last=endpoints_last)

    @invariant()
    def routes_point_to_clusters_that_are_ready(self) -> None:
        for resource in self.held[ROUTE].values():
            for host in route_pb2.RouteConfiguration.FromString(resource.value).virtual_hosts:
                for route in host.routes:
                    for arm in route.route.weighted_clusters.clusters:
                        assert arm.name in self.serving
                        if tunnel := self.entered.get(arm.name):
                            assert tunnel in self.held[LISTENER]
                            assert tunnel in self.serving

    def teardown(self) -> None:
        """Left alone, and with nothing disliked any more, Envoy ends up with exactly what is wanted."""
        self.come_to_rest()
        # One that is wanted no more may wait with what keeps its rollout's routes from being sent; nobody needs it.
        wanted = {each.name for built in self.wanted.values() for each in built.of_type(CLUSTER)}
        assert self.warming & wanted <= self.cut_off | self.disliked
        self.dislikes.clear()
        self.reconnect(False, self.options)
        self.come_to_rest()
        self.check()

    def come_to_rest(self) -> None:
        while self.incoming or self.answers or self.asking:
            if self.incoming:
                self.take_an_update()
            elif self.answers:
                self.answer()
            else:
                self.ask_for_endpoints()
            self.routes_point_to_clusters_that_are_ready()

    def check(self) -> None:
        wanted = {
            (each.type_url, each.name): each
            for built in self.wanted.values()
            for each in (*built.resources, *built.endpoints, *built.retained)
        }
        held = {(kind, name): each for kind, all_held in self.held.items() for name, each in all_held.items()}
        assert held == wanted
        assert all(self.node.holds(built) for built in self.wanted.values())


EnvoyModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestEnvoyModel = EnvoyModel.TestCase
