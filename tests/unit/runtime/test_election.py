"""The decisions of an election, one replica at a time; several at once are in tests/property/test_election_safety.py."""

from datetime import UTC, datetime

import pytest

from controller.runtime.election import Election, ElectionSettings, LeaseRecord, Role

WALL = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = ElectionSettings()


def record(
    holder: str = "other", *, version: int = 1, renewed: str = "t1", duration: float = 15
) -> LeaseRecord:
    return LeaseRecord(holder, renewed, "t0", 3, duration, str(version))


def election(*, now: float = 0) -> Election:
    return Election("me", SETTINGS, now=now)


def test_a_lease_that_does_not_exist_is_taken_at_once() -> None:
    assert election().next_attempt(0) == 0


@pytest.mark.parametrize("holder", ["", "me"])
def test_a_lease_that_was_released_or_is_ones_own_is_taken_at_once(holder: str) -> None:
    one = election()
    one.saw(record(holder), 1)
    assert one.next_attempt(1) == 0


def test_a_lease_of_another_is_taken_when_no_renewal_was_seen_for_its_duration() -> None:
    one = election()
    one.saw(record(), 100)
    assert one.next_attempt(101) == 14
    one.saw(record(version=2, renewed="t2"), 110)
    assert one.next_attempt(124) == 1
    assert one.next_attempt(125) == 0


def test_a_change_that_is_no_renewal_does_not_prolong_the_lease() -> None:
    one = election()
    one.saw(record(), 100)
    one.saw(record(version=2), 110)
    assert one.next_attempt(110) == 5


def test_what_is_older_than_what_is_known_changes_nothing() -> None:
    one = election()
    one.saw(record(version=5), 100)
    one.saw(record("me", version=4, renewed="t9"), 101)
    assert one.record == record(version=5)
    assert one.next_attempt(101) == 14


def test_a_replica_follows_whoever_renews_and_guards_when_nobody_is_seen_to() -> None:
    one = election()
    assert one.role(0) is Role.GUARDING
    one.saw(record(), 1)
    assert one.role(1) is Role.FOLLOWING
    assert one.role(1 + SETTINGS.suspect_after) is Role.GUARDING
    one.saw(record(version=2, renewed="t2"), 20)
    assert one.role(20) is Role.FOLLOWING


def test_a_leader_renews_at_a_third_of_its_deadline_and_leads_until_the_deadline_passes() -> None:
    one = election()
    one.wrote(record("me"), sent_at=100)
    assert one.role(109.9) is Role.LEADING
    assert one.role(110) is Role.GUARDING
    assert one.next_attempt(100) == pytest.approx(10 / 3)


def test_a_leader_tries_again_after_the_retry_period_and_knows_by_the_deadline() -> None:
    one = election()
    one.wrote(record("me"), sent_at=100)
    one.failed(104, 2)
    assert one.next_attempt(104) == 2
    assert one.patience(104) == 4
    assert one.patience(108.5) == 1.5


def test_a_leader_that_sees_another_in_its_place_stops_at_once() -> None:
    one = election()
    one.wrote(record("me"), sent_at=100)
    one.saw(record("other", version=2), 101)
    assert one.role(101) is Role.FOLLOWING


def test_taking_over_counts_a_transition_and_renewing_does_not() -> None:
    one = election()
    one.saw(record("other"), 0)
    taken = one.spec(WALL)
    assert taken == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
        "leaseTransitions": 4,
    }
    one.wrote(record("me", version=2), sent_at=0)
    assert (one.spec(WALL)["leaseTransitions"], one.spec(WALL)["acquireTime"]) == (3, "t0")


def test_a_released_lease_names_nobody() -> None:
    one = election()
    one.wrote(record("me"), sent_at=0)
    assert one.released(WALL)["holderIdentity"] == ""


def test_a_record_is_read_from_a_lease_that_lacks_everything() -> None:
    empty = LeaseRecord.of({"metadata": {"resourceVersion": "7"}})
    assert empty == LeaseRecord("", "", "", 0, 0.0, "7")


def test_after_the_history_was_rewound_the_lease_is_believed_as_it_is_read() -> None:
    one = election()
    one.saw(record("other", version=1000, renewed="t9"), 0)
    one.saw(record("other", version=500, renewed="t5"), 20)
    assert one.record == record("other", version=1000, renewed="t9"), "a late event looks just the same"
    one.read(record("other", version=500, renewed="t5"), 20)
    assert one.record == record("other", version=500, renewed="t5")
    assert one.next_attempt(20) == 15
    one.saw(record("other", version=501, renewed="t6"), 21)
    assert one.next_attempt(21) == 15


def test_a_leader_whose_history_was_rewound_waits_even_if_the_lease_names_it() -> None:
    one = election()
    one.wrote(record("me", version=1000), sent_at=0)
    one.read(record("me", version=500), 1)
    assert one.role(1) is Role.GUARDING
    assert one.next_attempt(1) == 15
    assert one.next_attempt(16) == 0


def test_a_read_that_brings_nothing_older_is_as_good_as_the_watch() -> None:
    one = election()
    one.saw(record("other", version=5), 0)
    one.read(record("me", version=6), 1)
    assert one.next_attempt(1) == 0
    one.read(None, 2)
    assert one.record is None
