"""The store against a model of the API server, with events and answers of writes arriving in any legal order."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.runtime.resource import RawObject
from controller.runtime.store import Store

NAMES = st.sampled_from("abc")


def _obj(name: str, version: int) -> RawObject:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


class StoreMachine(RuleBasedStateMachine):
    """One watch delivers the server's history in order; answers of writes come early, late or never.

    At any moment the watch may be replaced by a list, taken at that moment and delivered in pages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store: Store[int] = Store(lambda raw: int(raw["metadata"]["resourceVersion"]))
        self.version = 100
        self.objects: dict[str, int] = {}
        self.undelivered: list[tuple[str, str, int]] = []
        self.answers: list[tuple[str, int]] = []
        self.list_version: int | None = None
        self.list_keys: set[str] = set()
        self.list_rest: list[tuple[str, int]] = []
        self.told: dict[str, int] = {}
        self.store.on_change(self.follow)

    def follow(self, key: str, old: int | None, new: int | None) -> None:
        """Someone who only hears of changes must end up knowing what the store knows."""
        assert self.told.get(key) == old
        self.told.pop(key, None)
        if new is not None:
            self.told[key] = new

    @rule(name=NAMES)
    def write(self, name: str) -> None:
        self.version += 1
        self.objects[name] = self.version
        self.undelivered.append(("MODIFIED", name, self.version))
        self.answers.append((name, self.version))

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.objects)))
        self.version += 1
        del self.objects[name]
        self.undelivered.append(("DELETED", name, self.version))

    @precondition(lambda self: self.undelivered and self.list_version is None)
    @rule()
    def deliver(self) -> None:
        kind, name, version = self.undelivered.pop(0)
        if kind == "DELETED":
            self.store.deleted(name, _obj(name, version))
        else:
            self.store.applied(name, _obj(name, version))
        self.store.observed(version)

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.answers) - 1))
        name, version = self.answers.pop(index)
        self.store.put_if_newer(_obj(name, version))

    @rule()
    def start_list(self) -> None:
        self.list_version = self.version
        self.list_rest = sorted(self.objects.items())
        self.list_keys = set(self.objects)
        self.undelivered.clear()
        self.store.list_started(self.version)

    @precondition(lambda self: self.list_rest)
    @rule()
    def page(self) -> None:
        name, version = self.list_rest.pop(0)
        self.store.applied(name, _obj(name, version))

    @precondition(lambda self: self.list_version is not None and not self.list_rest)
    @rule()
    def finish_list(self) -> None:
        assert self.list_version is not None
        self.store.list_finished(self.list_keys, self.list_version)
        self.list_version = None

    @precondition(lambda self: self.list_version is None and not self.undelivered)
    @invariant()
    def once_all_is_delivered_the_store_is_the_server(self) -> None:
        assert {key: self.store.get(key) for key in sorted(self.store.keys())} == self.objects

    @invariant()
    def who_follows_the_changes_knows_what_the_store_knows(self) -> None:
        assert self.told == {key: self.store.get(key) for key in sorted(self.store.keys())}


TestStore = StoreMachine.TestCase
