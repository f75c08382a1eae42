"""The work queue against a model, under any sequence of calls."""

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.runtime.backoff import Backoff
from controller.runtime.testing import FakeClock
from controller.runtime.workqueue import ShutDown, WorkQueue

KEYS = st.sampled_from("abcd")
SECONDS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])
BACKOFF = Backoff(base=1.0, cap=4.0, uniform=lambda: 1.0)


class WorkQueueMachine(RuleBasedStateMachine):
    """Keeps beside the queue what each key must still get: a turn now, or one at an instant."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.queue = WorkQueue("model", self.clock, backoff=BACKOFF)
        self.wanted: list[str] = []  # keys that need a turn, in the order in which they came to need it
        self.due: dict[str, float] = {}
        self.working: set[str] = set()
        self.failures: dict[str, int] = {}
        self.shut = False

    def teardown(self) -> None:
        """Whatever happened before: once all workers are done and all delays are over, every wanted key has its turn."""
        self.advance(1000.0)
        wanted = set(self.wanted)
        served = set()
        for key in list(self.working):
            self.finish(key)
        while len(self.queue):
            key = self.take()
            served.add(key)
            self.finish(key)
        assert served == wanted
        self.loop.run_until_complete(self.queue.drained())
        self.shut_down()
        with pytest.raises(ShutDown):
            self.loop.run_until_complete(self.queue.get())
        self.loop.close()

    def want(self, key: str) -> None:
        if key not in self.wanted and not self.shut:
            self.wanted.append(key)

    def want_after(self, key: str, seconds: float) -> None:
        if seconds == 0:
            self.want(key)
        elif not self.shut:
            due = self.clock.monotonic() + seconds
            self.due[key] = min(due, self.due.get(key, due))

    def take(self) -> str:
        key = self.loop.run_until_complete(self.queue.get())
        assert key not in self.working, "two workers have the same key"
        ready = [each for each in self.wanted if each not in self.working]
        assert key in ready, "a key that nobody asked for"
        self.working.add(key)
        self.wanted.remove(key)
        return key

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.want(key)

    @rule(key=KEYS, seconds=SECONDS)
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        self.want_after(key, seconds)

    @rule(key=KEYS)
    def add_rate_limited(self, key: str) -> None:
        self.queue.add_rate_limited(key)
        self.failures[key] = self.failures.get(key, 0) + 1
        self.want_after(key, BACKOFF.bound(self.failures[key]))

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.failures.pop(key, None)

    @precondition(lambda self: len(self.queue) > 0)
    @rule()
    def get(self) -> None:
        self.take()

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(sorted(self.working))))

    def finish(self, key: str) -> None:
        self.queue.done(key)
        self.working.remove(key)

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        now = self.clock.monotonic()
        for key in sorted(self.due, key=self.due.__getitem__):
            if self.due[key] <= now:
                del self.due[key]
                self.want(key)

    @precondition(lambda self: not self.shut)
    @rule()
    def shut_down(self) -> None:
        """Nothing comes in any more, what waits is handed out all the same."""
        self.queue.shut_down()
        self.shut = True
        self.due.clear()

    @invariant()
    def exactly_the_wanted_keys_that_nobody_has_wait(self) -> None:
        assert len(self.queue) == len([key for key in self.wanted if key not in self.working])

    @invariant()
    def exactly_the_taken_keys_are_processed(self) -> None:
        assert self.queue.processing == self.working

    @invariant()
    def the_earliest_deadline_is_the_one_that_is_waited_for(self) -> None:
        assert self.clock.next_due() == (min(self.due.values()) if self.due else None)

    @invariant()
    def failures_are_counted_per_key(self) -> None:
        assert {key: self.queue.failures(key) for key in "abcd"} == {
            key: self.failures.get(key, 0) for key in "abcd"
        }


TestWorkQueue = WorkQueueMachine.TestCase
