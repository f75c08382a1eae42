import pytest

from controller.runtime.client import Page, WatchEvent
from controller.runtime.errors import ApiError, BadRequest, Gone, Invalid, Unavailable, VersionNotReached
from controller.runtime.listwatch import (
    Applied,
    Deleted,
    Event,
    ListFinished,
    ListRequest,
    ListStarted,
    ListWatch,
    Progressed,
    WatchRequest,
)
from controller.runtime.resource import RawObject


def _obj(name: str, version: int) -> RawObject:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": str(version)}}


def _event(kind: str, name: str, version: int) -> WatchEvent:
    return WatchEvent(kind, _obj(name, version))


def _bookmark(version: int, **annotations: str) -> WatchEvent:
    metadata = {"resourceVersion": str(version), "annotations": annotations}
    return WatchEvent("BOOKMARK", {"metadata": metadata})


def _end(version: int) -> WatchEvent:
    return _bookmark(version, **{"k8s.io/initial-events-end": "true"})


def _request(machine: ListWatch) -> object:
    return machine.request


def test_a_list_of_two_pages_then_a_watch_from_its_version() -> None:
    machine = ListWatch(page_size=1, watch_list=False)
    assert _request(machine) == ListRequest(1)
    a, b = _obj("a", 3), _obj("b", 4)
    assert machine.page(Page((a,), "10", "more")) == [ListStarted(10), Applied("ns/a", a)]
    assert _request(machine) == ListRequest(1, "more")
    assert machine.page(Page((b,), "10", "")) == [
        Applied("ns/b", b),
        ListFinished(frozenset({"ns/a", "ns/b"}), 10),
    ]
    assert _request(machine) == WatchRequest("10")


def _watching(version: int = 10) -> ListWatch:
    machine = ListWatch(page_size=2, watch_list=False)
    machine.page(Page((), str(version), ""))
    return machine


@pytest.mark.parametrize(
    ("line", "events"),
    [
        (_event("ADDED", "a", 11), [Applied("ns/a", _obj("a", 11)), Progressed(11)]),
        (_event("MODIFIED", "a", 12), [Applied("ns/a", _obj("a", 12)), Progressed(12)]),
        (_event("DELETED", "a", 13), [Deleted("ns/a", _obj("a", 13)), Progressed(13)]),
        (_bookmark(14), [Progressed(14)]),
    ],
)
def test_each_line_of_a_watch_moves_its_version_on(line: WatchEvent, events: list[Event]) -> None:
    machine = _watching()
    assert machine.change(line) == events
    assert machine.request == WatchRequest(line.object["metadata"]["resourceVersion"])


def test_a_line_that_comes_late_does_not_take_the_watch_back() -> None:
    machine = _watching()
    machine.change(_event("ADDED", "a", 12))
    assert machine.change(_event("ADDED", "b", 11)) == [Applied("ns/b", _obj("b", 11)), Progressed(11)]
    assert machine.request == WatchRequest("12")


def test_a_line_without_a_version_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="ADDED event without a usable resourceVersion"):
        _watching().change(WatchEvent("ADDED", {"metadata": {"name": "a"}}))


@pytest.mark.parametrize(
    ("state", "error", "then"),
    [
        pytest.param(_watching(), Unavailable("x"), WatchRequest("10"), id="a broken watch goes on"),
        pytest.param(_watching(), Gone("x"), ListRequest(2), id="a watch too old lists again"),
        pytest.param(
            ListWatch(2, watch_list=False), Unavailable("x"), ListRequest(2), id="a failed list starts again"
        ),
        pytest.param(
            ListWatch(2, watch_list=False),
            Gone("x"),
            ListRequest(2),
            id="a list refused as too old starts again",
        ),
    ],
)
def test_what_follows_a_failure(state: ListWatch, error: ApiError, then: object) -> None:
    state.ended(error)
    assert state.request == then


@pytest.mark.parametrize(
    ("error", "then"),
    [
        pytest.param(Unavailable("x"), ListRequest(1), id="from the first page"),
        pytest.param(Gone("x"), ListRequest(0), id="in one piece when pages expire"),
    ],
)
def test_a_list_that_fails_on_its_second_page_starts_over(error: ApiError, then: ListRequest) -> None:
    machine = ListWatch(page_size=1, watch_list=False)
    machine.page(Page((_obj("gone by then", 1),), "10", "more"))
    machine.ended(error)
    assert machine.request == then
    events = machine.page(Page((_obj("b", 2),), "20", ""))
    assert events[0] == ListStarted(20)
    assert events[-1] == ListFinished(frozenset({"ns/b"}), 20)


# WatchLists.


def test_a_watch_list_is_asked_for_first_and_of_the_newest_version() -> None:
    assert ListWatch().request == WatchRequest("", initial=True)


def test_all_objects_then_the_mark_of_their_end() -> None:
    machine = ListWatch()
    assert machine.change(_event("ADDED", "a", 3)) == [Applied("ns/a", _obj("a", 3))]
    assert machine.change(_event("ADDED", "b", 2)) == [Applied("ns/b", _obj("b", 2))]
    assert machine.change(_bookmark(9)) == [], "a bookmark like any other ends nothing"
    assert machine.change(_end(10)) == [ListFinished(frozenset({"ns/a", "ns/b"}), 10)]
    assert _request(machine) == WatchRequest("10")
    assert machine.change(_end(12)) == [Progressed(12)], "the mark has no meaning later on"


def test_changes_may_come_before_the_end() -> None:
    machine = ListWatch()
    machine.change(_event("ADDED", "a", 3))
    machine.change(_event("ADDED", "b", 2))
    assert machine.change(_event("DELETED", "a", 11)) == [Deleted("ns/a", _obj("a", 11))]
    machine.change(_event("MODIFIED", "c", 12))
    assert machine.change(_end(12)) == [ListFinished(frozenset({"ns/b", "ns/c"}), 12)]


def _told_of_one() -> ListWatch:
    machine = ListWatch(page_size=2)
    machine.change(_event("ADDED", "gone by the next time", 7))
    return machine


@pytest.mark.parametrize(
    ("error", "then"),
    [
        pytest.param(None, WatchRequest("7", initial=True), id="closed: again, no older than what was told"),
        pytest.param(Unavailable("x"), WatchRequest("7", initial=True), id="broken: again"),
        pytest.param(Gone("x"), WatchRequest("7", initial=True), id="gone: again"),
        pytest.param(Invalid("x"), ListRequest(2), id="not known: a list"),
        pytest.param(BadRequest("x"), ListRequest(2), id="not understood: a list"),
        pytest.param(
            VersionNotReached("x"), ListRequest(2), id="behind what was told: a list, which may go back"
        ),
    ],
)
def test_what_follows_a_watch_list_that_did_not_come_to_its_end(error: ApiError | None, then: object) -> None:
    machine = _told_of_one()
    machine.ended(error)
    assert machine.request == then
    if machine.is_initial:
        assert machine.change(_end(10)) == [ListFinished(frozenset(), 10)]


def test_after_two_broken_watch_lists_a_list_and_then_watch_lists_again() -> None:
    machine = _told_of_one()
    machine.ended(None)
    machine.ended(Unavailable("x"))
    assert _request(machine) == ListRequest(2)
    machine.page(Page((), "20", ""))
    machine.ended(Gone("x"))
    assert _request(machine) == WatchRequest("20", initial=True)


def test_a_refusal_is_remembered() -> None:
    machine = ListWatch(page_size=2)
    machine.ended(Invalid("x"))
    machine.page(Page((), "20", ""))
    machine.ended(Gone("x"))
    assert _request(machine) == ListRequest(2)


def test_after_a_restore_from_a_backup_no_watch_list_asks_for_the_lost_future() -> None:
    machine = _watching(1000)
    machine.watch_list = True
    machine.ended(Gone("x"))
    assert _request(machine) == WatchRequest("1000", initial=True)
    machine.ended(VersionNotReached("x"))
    assert machine.page(Page((), "50", ""))[0] == ListStarted(50)
    machine.ended(Gone("x"))
    assert _request(machine) == WatchRequest("50", initial=True)
