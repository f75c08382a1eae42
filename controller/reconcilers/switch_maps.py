"""ConfigMaps with the label ``agentrollout.dev/kill-switch``: flags that specs name, and switches that nobody need name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from controller.core.flags import FlagBook, Value, read_text
from controller.runtime.resource import RawObject
from controller.runtime.store import Store

_log = structlog.get_logger(__name__)

SWITCH_LABEL = "agentrollout.dev/kill-switch"
"""Only ConfigMaps with this label are read."""

KILLED_KEY = "killed"
"""The key of a switch for a namespace or the cluster."""

_MOST_CHARACTERS = 256
"""No longer text is a flag."""

_UNKNOWN = f"there is no such ConfigMap with the label {SWITCH_LABEL}, or it has no such key"


class Reach(StrEnum):
    """Values of the label: whom a ConfigMap concerns beside those who name it."""

    FLAGS = "flags"
    """Nobody."""
    ROLLOUTS = "rollouts"
    """The AgentRollouts of its namespace whose names are its keys."""
    NAMESPACE = "namespace"
    """All of its namespace."""
    CLUSTER = "cluster"
    """All there are; in the operator's own namespace only."""


@dataclass(frozen=True, slots=True)
class ObservedSwitches:
    """What is kept of such a ConfigMap.

    Attributes:
        namespace: Where it is.
        name: Its name.
        reach: The label's value.
        flags: What its keys say.
    """

    namespace: str
    name: str
    reach: str
    flags: Mapping[str, Value]

    def flag(self, key: str) -> str:
        """What the book calls a key."""
        return f"{self.namespace}/{self.name}/{key}"


@dataclass(frozen=True, slots=True)
class WideSwitch:
    """A switch that no spec names."""

    name: str
    source: str
    flag: str


def observe_switches(raw: RawObject) -> ObservedSwitches:
    """The projection of a ConfigMap."""
    metadata = raw["metadata"]
    return ObservedSwitches(
        metadata["namespace"],
        metadata["name"],
        metadata.get("labels", {}).get(SWITCH_LABEL, ""),
        {key: read_text(text[:_MOST_CHARACTERS]) for key, text in (raw.get("data") or {}).items()},
    )


class SwitchMaps:
    """The labelled ConfigMaps as a source of flags.

    What a spec names keeps its last value when its ConfigMap goes away. A switch that nobody names goes with it: what it
    has killed stays killed in status, but nothing would say where it could be turned off.

    Args:
        store: The ConfigMaps.
        operator_namespace: Where a switch for the whole cluster may be.
        now: The wall clock.
    """

    def __init__(
        self, store: Store[ObservedSwitches], operator_namespace: str, now: Callable[[], datetime]
    ) -> None:
        self.book = FlagBook(unknown=_UNKNOWN)
        self._store = store
        self._operator_namespace = operator_namespace
        self._now = now
        self._wide: dict[str, ObservedSwitches] = {}
        self._listeners: list[Callable[[str | None], None]] = []
        store.on_change(self._changed)

    def on_change(self, listener: Callable[[str | None], None]) -> None:
        """Call ``listener(namespace)`` when a switch that nobody names may have changed for it; None stands for all."""
        self._listeners.append(listener)

    def concerning(self, namespace: str, rollout: str) -> Iterator[WideSwitch]:
        """The switches that no spec names and that concern an AgentRollout."""
        for found in self._wide.values():
            reached = found.reach == Reach.CLUSTER or found.namespace == namespace
            if reached and (found.reach != Reach.ROLLOUTS or rollout in found.flags):
                yield _wide(found, rollout)

    def needs(self, flag: str) -> bool:
        """Whether the last word of a key counts that nobody names: that of a switch which is there."""
        config_map, _, key = flag.rpartition("/")
        return key == KILLED_KEY and self._store.get(config_map) is not None

    def everywhere(self, is_rollout: Callable[[str], bool]) -> Iterator[WideSwitch]:
        """All switches that no spec names; of keys that are the names of rollouts, those that ``is_rollout`` knows by their key."""
        for found in self._wide.values():
            if found.reach == Reach.ROLLOUTS:
                there = (key for key in found.flags if is_rollout(f"{found.namespace}/{key}"))
                yield from (_wide(found, key) for key in there)
            else:
                yield _wide(found, "")

    def _changed(self, key: str, old: ObservedSwitches | None, new: ObservedSwitches | None) -> None:
        before, after = self._wide.pop(key, None), self._as_wide(new)
        if after is not None:
            self._wide[key] = after
        gone = {old.flag(name): None for name in old.flags} if old else {}
        there = {new.flag(name): value for name, value in new.flags.items()} if new else {}
        self.book.correct({**gone, **there}, self.book.number(), self._now())
        for found in (before, after):
            if found is not None:
                for listener in self._listeners:
                    listener(None if found.reach == Reach.CLUSTER else found.namespace)

    def _as_wide(self, found: ObservedSwitches | None) -> ObservedSwitches | None:
        if found is None or found.reach == Reach.FLAGS:
            return None
        allowed = found.reach != Reach.CLUSTER or found.namespace == self._operator_namespace
        if found.reach in {Reach.ROLLOUTS, Reach.NAMESPACE, Reach.CLUSTER} and allowed:
            return found
        _log.warning(
            "kill_switch_without_reach", config_map=f"{found.namespace}/{found.name}", label=found.reach
        )
        return None


def _wide(found: ObservedSwitches, rollout: str) -> WideSwitch:
    key = rollout if found.reach == Reach.ROLLOUTS else KILLED_KEY
    return WideSwitch(found.reach, f"ConfigMap {found.namespace}/{found.name}, key {key}", found.flag(key))
