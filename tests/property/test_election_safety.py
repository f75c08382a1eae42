"""Several replicas, one Lease: never do two lead, whatever is late, lost, paused or reordered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.runtime.election import Election, ElectionSettings, LeaseRecord, Role

WALL = datetime(2026, 1, 1, tzinfo=UTC)
REPLICAS = st.integers(0, 2)


@dataclass
class _Write:
    """A PUT on its way to the server, and its answer on its way back."""

    based_on: str
    holder: str
    sent_at: float
    answer: LeaseRecord | None = None
    refused: bool = False


class Replicas(RuleBasedStateMachine):
    """Three elections against a model of the API server's optimistic concurrency."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.versions = 0
        self.restored = False
        self.lease: LeaseRecord | None = None
        self.history: list[LeaseRecord] = []
        self.elections = [Election(f"r{n}", ElectionSettings(), now=0.0) for n in range(3)]
        self.writes: dict[int, _Write] = {}
        self.late: list[_Write] = []

    @rule(seconds=st.floats(0.01, 8) | st.sampled_from([2.0, 5.0, 10.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(n=REPLICAS)
    def attempt(self, n: int) -> None:
        """A replica whose loop gets to run writes when it is due; a paused one simply does not come here."""
        election = self.elections[n]
        if n in self.writes or election.next_attempt(self.now) > 0:
            return
        known = election.record
        self.writes[n] = _Write(known.resource_version if known else "", f"r{n}", self.now)

    @rule(n=REPLICAS)
    def a_write_goes_through(self, n: int) -> None:
        """The usual case in one step, so that long stories are found too."""
        self.attempt(n)
        self.the_server_takes_a_write(n)
        self.an_answer_arrives(n)

    @rule(n=REPLICAS)
    def the_server_takes_a_write(self, n: int) -> None:
        if (write := self.writes.get(n)) and not write.answer and not write.refused:
            self._serve(write)

    @precondition(lambda self: self.late)
    @rule()
    def the_server_takes_a_write_whose_sender_has_given_up(self) -> None:
        self._serve(self.late.pop())

    @rule(n=REPLICAS)
    def an_answer_arrives(self, n: int) -> None:
        write = self.writes.get(n)
        if write is None or not (write.answer or write.refused):
            return
        del self.writes[n]
        election = self.elections[n]
        if self.now - write.sent_at > election.patience(write.sent_at):
            election.failed(self.now, 2.0)
        elif write.answer:
            election.wrote(write.answer, write.sent_at)
        else:
            election.failed(self.now, 2.0)
            election.read(self.lease, self.now)

    @rule(n=REPLICAS)
    def a_replica_gives_up_waiting(self, n: int) -> None:
        if write := self.writes.pop(n, None):
            self.elections[n].failed(self.now, 2.0)
            if not write.answer and not write.refused:
                self.late.append(write)

    @precondition(lambda self: self.history)
    @rule(n=REPLICAS, back=st.integers(0, 3))
    def the_watch_brings_something(self, n: int, back: int) -> None:
        self.elections[n].saw(self.history[max(len(self.history) - 1 - back, 0)], self.now)

    @rule(n=REPLICAS)
    def a_replica_is_restarted_under_its_name(self, n: int) -> None:
        if write := self.writes.pop(n, None):
            self.late.append(write)
        self.elections[n] = Election(f"r{n}", ElectionSettings(), now=self.now)
        self.elections[n].saw(self.lease, self.now)

    @rule(n=REPLICAS)
    def a_leader_releases(self, n: int) -> None:
        election = self.elections[n]
        if election.role(self.now) is not Role.LEADING or n in self.writes:
            return
        known = election.record
        election.resign()
        if known == self.lease and known is not None:
            self._store(replace(known, holder="", renewed=f"{self.now}"))

    @precondition(lambda self: len(self.history) > 1 and not self.restored)
    @rule(back=st.integers(1, 5))
    def the_api_server_is_restored_from_a_backup(self, back: int) -> None:
        """Nobody can write meanwhile, which takes longer than a leader leads on.

        No version is given to two different Leases: nobody could tell them apart, and no other client could either.
        """
        self.restored = True
        self.now += ElectionSettings().renew_deadline + 1
        self.history = self.history[: max(len(self.history) - back, 1)]
        self.lease = self.history[-1]
        self.versions = int(self.lease.resource_version) + 1  # odd from now on
        self.writes.clear()
        self.late.clear()

    @invariant()
    def at_most_one_leads(self) -> None:
        leading = [e.identity for e in self.elections if e.role(self.now) is Role.LEADING]
        assert len(leading) <= 1, leading

    def _serve(self, write: _Write) -> None:
        current = self.lease.resource_version if self.lease else ""
        if write.based_on != current:
            write.refused = True
            return
        before = self.lease or LeaseRecord("", "", "", 0, 15, "0")
        write.answer = self._store(
            replace(before, holder=write.holder, renewed=f"{write.sent_at}", duration=15)
        )

    def _store(self, record: LeaseRecord) -> LeaseRecord:
        self.versions += 2
        self.lease = replace(record, resource_version=str(self.versions))
        self.history.append(self.lease)
        return self.lease


Replicas.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestReplicas = Replicas.TestCase


def test_some_replica_leads_once_messages_arrive() -> None:
    replicas = Replicas()
    _settle(replicas)


def test_some_replica_leads_again_after_the_history_was_rewound() -> None:
    replicas = Replicas()
    _settle(replicas)
    for _ in range(20):
        replicas.time_passes(4.0)
        replicas.a_write_goes_through(0)
    replicas.the_api_server_is_restored_from_a_backup(15)
    _settle(replicas)


def _settle(replicas: Replicas) -> None:
    for _ in range(60):
        for n in range(3):
            replicas.a_write_goes_through(n)
        replicas.at_most_one_leads()
        replicas.time_passes(1.0)
    assert [e.role(replicas.now) for e in replicas.elections].count(Role.LEADING) == 1
