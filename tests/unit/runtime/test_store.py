from typing import Any

import pytest

from controller.runtime.resource import RawObject
from controller.runtime.store import InvalidObjectError, Store

Change = tuple[str, str | None, str | None]


def _obj(name: str, version: int, value: str = "v", namespace: str = "ns", uid: str = "1") -> RawObject:
    metadata = {"namespace": namespace, "name": name, "resourceVersion": str(version), "uid": uid}
    return {"metadata": metadata, "value": value}


def _project(raw: RawObject) -> str:
    if raw["value"].startswith("bad"):
        raise ValueError(f"{raw['value']} is not allowed")
    return str(raw["value"])


@pytest.fixture
def store() -> Store[str]:
    return Store(_project, indexers={"first letter": lambda value: value[:1]})


@pytest.fixture
def changes(store: Store[str]) -> list[Change]:
    changes: list[Change] = []
    store.on_change(lambda key, old, new: changes.append((key, old, new)))
    return changes


def _put(store: Store[str], *objects: RawObject) -> None:
    for obj in objects:
        store.applied(f"{obj['metadata']['namespace']}/{obj['metadata']['name']}", obj)


def test_objects_are_found_by_key_and_listed_in_order(store: Store[str]) -> None:
    _put(store, _obj("b", 2, "two"), _obj("a", 1, "one"))
    assert store.get("ns/a") == "one"
    assert store.get("ns/none") is None
    assert store.list() == ("one", "two")
    assert store.keys() == ("ns/a", "ns/b")
    assert len(store) == 2
    assert store.resource_version("ns/b") == 2
    assert store.resource_version("ns/none") is None


def test_indices_follow_changes_and_deletions(store: Store[str]) -> None:
    _put(store, _obj("a", 1, "tea"), _obj("b", 2, "toast"), _obj("c", 3, "coffee"))
    assert store.by_index("first letter", "t") == ("tea", "toast")
    _put(store, _obj("a", 4, "cocoa"))
    assert store.by_index("first letter", "t") == ("toast",)
    assert store.by_index("first letter", "c") == ("cocoa", "coffee")
    store.deleted("ns/b", _obj("b", 5, "toast"))
    assert store.by_index("first letter", "t") == ()
    assert store._indices["first letter"].keys() == {"c"}
    with pytest.raises(KeyError):
        store.by_index("last letter", "t")


@pytest.mark.parametrize(
    ("versions", "value", "told"),
    [
        pytest.param((1, 2), "2", 2, id="newer wins"),
        pytest.param((2, 1), "2", 1, id="older is ignored"),
        pytest.param((2, 2), "2", 1, id="the same is no news"),
        pytest.param((9, 10), "10", 2, id="versions are numbers, not text"),
    ],
)
def test_the_newer_version_stays(
    store: Store[str], changes: list[Change], versions: tuple[int, ...], value: str, told: int
) -> None:
    for version in versions:
        _put(store, _obj("a", version, str(version)))
    assert store.get("ns/a") == value
    assert len(changes) == told


def test_the_answer_of_a_write_is_seen_at_once_and_its_event_is_no_news(
    store: Store[str], changes: list[Change]
) -> None:
    _put(store, _obj("a", 5, "old"))
    assert store.put_if_newer(_obj("a", 8, "mine"))
    _put(store, _obj("a", 7, "theirs, before mine"), _obj("a", 8, "mine"))
    assert store.get("ns/a") == "mine"
    assert changes == [("ns/a", None, "old"), ("ns/a", "old", "mine")]


def test_a_late_answer_does_not_bring_back_what_was_deleted_since(store: Store[str]) -> None:
    _put(store, _obj("a", 5))
    store.deleted("ns/a", _obj("a", 9))
    assert not store.put_if_newer(_obj("a", 8))
    assert store.get("ns/a") is None
    assert store.put_if_newer(_obj("a", 10, "made anew", uid="2"))
    assert store.get("ns/a") == "made anew"


def test_a_late_event_does_not_bring_back_what_was_deleted_since(
    store: Store[str], changes: list[Change]
) -> None:
    _put(store, _obj("a", 5))
    store.deleted("ns/a", _obj("a", 9))
    _put(store, _obj("a", 5), _obj("a", 8))
    assert store.get("ns/a") is None
    assert changes == [("ns/a", None, "v"), ("ns/a", "v", None)]


def test_a_late_event_brings_nothing_back_of_an_object_deleted_before_the_last_one_of_its_name(
    store: Store[str],
) -> None:
    first, second = _obj("a", 1, uid="first"), _obj("a", 3, uid="second")
    store.applied("ns/a", first)
    store.deleted("ns/a", {"metadata": {**first["metadata"], "resourceVersion": "2"}})
    store.applied("ns/a", second)
    store.deleted("ns/a", {"metadata": {**second["metadata"], "resourceVersion": "4"}})
    assert not store.applied("ns/a", first)
    assert store.get("ns/a") is None


def test_what_we_deleted_is_gone_at_once_and_its_last_events_are_no_news(
    store: Store[str], changes: list[Change]
) -> None:
    _put(store, _obj("a", 5))
    assert store.uid("ns/a") == "1"
    assert store.forget("ns/a", "1")
    _put(store, _obj("a", 8, "written by someone just before"))
    store.deleted("ns/a", _obj("a", 9))
    assert changes == [("ns/a", None, "v"), ("ns/a", "v", None)]
    _put(store, _obj("a", 10, "made anew", uid="2"))
    assert not store.forget("ns/a", "1"), "the namesake stays"
    assert store.get("ns/a") == "made anew"
    assert store.uid("ns/none") == ""


def test_deletions_are_remembered_for_a_while_only(store: Store[str]) -> None:
    for number in range(3000):
        store.deleted(f"ns/{number}", _obj(str(number), number + 1, uid=str(number)))
    assert len(store._gone) == 1000


def test_a_deletion_of_an_earlier_namesake_is_ignored(store: Store[str], changes: list[Change]) -> None:
    store.put_if_newer(_obj("a", 10, "made anew"))
    assert not store.deleted("ns/a", _obj("a", 9))
    assert store.get("ns/a") == "made anew"
    assert store.deleted("ns/a", _obj("a", 11))
    assert not store.deleted("ns/a", _obj("a", 12))
    assert changes == [("ns/a", None, "made anew"), ("ns/a", "made anew", None)]


def test_what_a_complete_list_lacks_has_vanished(store: Store[str], changes: list[Change]) -> None:
    _put(store, _obj("a", 1), _obj("b", 2))
    changes.clear()
    store.list_started(20)
    _put(store, _obj("a", 1), _obj("c", 15, "new"))
    store.list_finished({"ns/a", "ns/c"}, 20)
    assert changes == [("ns/c", None, "new"), ("ns/b", "v", None)]


def test_a_write_newer_than_the_list_does_not_vanish_with_it(store: Store[str]) -> None:
    store.list_started(20)
    store.put_if_newer(_obj("mine", 21))
    store.list_finished(set(), 20)
    assert store.keys() == ("ns/mine",)


def test_after_a_restore_from_a_backup_the_list_counts_although_its_versions_are_lower(
    store: Store[str], changes: list[Change]
) -> None:
    store.list_started(100)
    _put(store, _obj("kept", 90, "from the future"), _obj("lost", 95))
    store.list_finished({"ns/kept", "ns/lost"}, 100)
    changes.clear()

    store.list_started(50)
    _put(store, _obj("kept", 40, "restored"))
    store.list_finished({"ns/kept"}, 50)
    assert changes == [("ns/kept", "from the future", "restored"), ("ns/lost", "v", None)]
    assert store.put_if_newer(_obj("kept", 51, "mine"))


def test_a_restore_from_a_backup_brings_back_what_was_deleted_since(store: Store[str]) -> None:
    store.list_started(100)
    _put(store, _obj("a", 90))
    store.list_finished({"ns/a"}, 100)
    store.deleted("ns/a", _obj("a", 110))
    store.observed(110)
    store.list_started(95)
    _put(store, _obj("a", 90))
    store.list_finished({"ns/a"}, 95)
    assert store.keys() == ("ns/a",)


def test_a_projection_may_say_what_is_wrong_in_its_own_words() -> None:
    def refuse(_: RawObject) -> str:
        raise InvalidObjectError("spec.size: must be at least 10")

    store = Store(refuse)
    _put(store, _obj("a", 1))
    assert store.invalid("ns/a") == "spec.size: must be at least 10"


def test_a_bad_object_is_kept_out_and_says_why(store: Store[str], changes: list[Change]) -> None:
    told: list[tuple[str, str]] = []
    store._on_invalid = lambda key, reason: told.append((key, reason))
    _put(store, _obj("a", 1, "good"), _obj("b", 2, "bad value"), _obj("c", 3, "fine"))
    assert store.list() == ("good", "fine")
    assert store.get("ns/b") is None
    assert store.invalid("ns/b") == "ValueError: bad value is not allowed"
    assert store.invalid("ns/a") is None
    assert store.invalid("ns/none") is None
    assert store.invalid_keys() == ("ns/b",)
    assert (len(store), store.invalid_count) == (2, 1)
    assert told == [("ns/b", "ValueError: bad value is not allowed")]
    assert ("ns/b", None, None) in changes


def test_an_object_may_become_bad_and_good_again(store: Store[str], changes: list[Change]) -> None:
    _put(store, _obj("a", 1, "good"), _obj("a", 2, "bad"), _obj("a", 3, "great"))
    assert store.get("ns/a") == "great"
    assert store.invalid("ns/a") is None
    assert changes == [("ns/a", None, "good"), ("ns/a", "good", None), ("ns/a", None, "great")]
    assert store.by_index("first letter", "g") == ("great",)


def test_a_bad_object_can_be_deleted_and_can_vanish(store: Store[str]) -> None:
    _put(store, _obj("a", 1, "bad"), _obj("b", 2, "bad"))
    store.deleted("ns/a", _obj("a", 3, "bad"))
    store.list_started(5)
    store.list_finished(set(), 5)
    assert store.invalid_keys() == ()
    assert store.invalid_count == 0


def test_an_indexer_that_raises_makes_a_bad_object() -> None:
    store: Store[Any] = Store(lambda raw: raw["value"], indexers={"half": lambda value: [str(1 / value)]})
    assert store.applied("ns/a", {"metadata": {"name": "a", "resourceVersion": "1"}, "value": 0})
    assert store.invalid("ns/a") == "ZeroDivisionError: division by zero"


def test_a_handler_that_raises_stops_neither_the_store_nor_the_other_handlers(store: Store[str]) -> None:
    def fail(key: str, old: str | None, new: str | None) -> None:
        raise RuntimeError(f"{key} {old} {new}")

    told: list[str] = []
    store.on_change(fail)
    store.on_change(lambda key, _, __: told.append(key))
    _put(store, _obj("a", 1), _obj("b", 2))
    assert told == ["ns/a", "ns/b"]
