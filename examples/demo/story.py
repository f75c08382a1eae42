"""What has happened so far: the event log of each act, fed by the watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from controller.api.rollout import AgentRollout
from examples.demo.acts import Act
from examples.demo.events import Event, Tone, transitions


@dataclass
class Chapter:
    """One act while and after it is played.

    Attributes:
        act: What is played; None before the first act.
        began: When it began.
        events: What happened, in the order it was seen.
        stages_seen: Titles of the stages that Envoy acknowledged, in order.
    """

    act: Act | None
    began: datetime
    events: list[Event] = field(default_factory=list)
    stages_seen: list[str] = field(default_factory=list)


class Story:
    """Turns states of the AgentRollout into events and keeps them by act."""

    def __init__(self, on_event: Callable[[Chapter, Event], None]) -> None:
        """Tell ``on_event`` each event as it happens."""
        self._on_event = on_event
        self.rollout: AgentRollout | None = None
        self.last_with_candidate: AgentRollout | None = None
        self.chapter = Chapter(None, datetime.now(UTC))

    def begin(self, act: Act) -> Chapter:
        """Open a new act."""
        self.chapter = Chapter(act, datetime.now(UTC))
        self.note(f"{act.version.name}: {act.story}; it should be {act.expectation}")
        return self.chapter

    def see(self, rollout: AgentRollout) -> None:
        """Take in a new state of the AgentRollout."""
        for event in transitions(self.rollout, rollout, datetime.now(UTC)):
            self._add(event)
        self.rollout = rollout
        stage = rollout.status.stage
        if stage:
            self.last_with_candidate = rollout
        if stage and stage.programmed_at and self.chapter.stages_seen[-1:] != [stage.title]:
            self.chapter.stages_seen.append(stage.title)

    def note(self, text: str, tone: Tone = Tone.PLAIN, at: datetime | None = None) -> None:
        """Add something that the AgentRollout does not tell."""
        self._add(Event(at or datetime.now(UTC), text, tone))

    def _add(self, event: Event) -> None:
        self.chapter.events.append(event)
        self._on_event(self.chapter, event)
