"""Kill switches in every replica: what sources say becomes cuts at once, whoever leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial

import structlog

from controller.api.kill_switches import KillScope, KillSwitch, SwitchSource
from controller.api.rollout import AgentRollout
from controller.core.flags import FlagBook, Said, header_value
from controller.core.killing import FEATURE_HEADER, killed_by, latch_of
from controller.core.snapshot import Latch, Switch
from controller.reconcilers.kill_metrics import KillMetrics
from controller.reconcilers.observed import ObservedRollout
from controller.reconcilers.switch_maps import SwitchMaps, WideSwitch
from controller.runtime.store import Store

_log = structlog.get_logger(__name__)

BY_FLAG = "flag"
"""Index of rollouts by the flags that they name, see `flags_of`."""

Told = Callable[[str], None]


def flags_of(observed: ObservedRollout) -> Iterable[str]:
    """Index function: the flags, as ``source/flag``, that a rollout names."""
    namespace = observed.rollout.metadata.namespace
    return {f"{each.source}/{each.flag(namespace)}" for each in observed.rollout.spec.kill_switches}


class KillSwitches:
    """What all sources say, rollout by rollout.

    Args:
        rollouts: Store of AgentRollouts, indexed by ``BY_FLAG``.
        maps: The ConfigMaps.
        books: What the servers say.
        metrics: Where the switches are shown.
    """

    def __init__(
        self,
        rollouts: Store[ObservedRollout],
        maps: SwitchMaps,
        books: Mapping[SwitchSource, FlagBook],
        metrics: KillMetrics,
    ) -> None:
        self.books = {SwitchSource.CONFIG_MAP: maps.book, **books}
        self._rollouts = rollouts
        self._maps = maps
        self._metrics = metrics
        metrics.show(self)
        self._listeners: list[Told] = []
        for source, book in self.books.items():
            book.on_change(partial(self._said, source))
        maps.on_change(self._widely_changed)
        rollouts.on_change(lambda _key, old, _new: self._forget(flags_of(old) if old else ()))

    def on_change(self, listener: Told) -> None:
        """Call ``listener(key)`` for each rollout of whose switches or features something else is said."""
        self._listeners.append(listener)

    def switches(self, rollout: AgentRollout) -> tuple[Switch, ...]:
        """The switches that concern the rollout's candidate."""
        metadata = rollout.metadata
        wide = self._maps.concerning(metadata.namespace, metadata.name)
        return (*self._named(rollout), *map(self._wide, wide))

    def features(self, rollout: AgentRollout) -> tuple[tuple[str, str], ...]:
        """The request headers that agents get, with their values; what is not known has none."""
        return tuple(self._features(rollout))

    def latch_of(self, rollout: AgentRollout) -> Latch | None:
        """The cut that the switches ask for."""
        return latch_of(rollout.status, self.switches(rollout))

    def pushed(self, rollout: AgentRollout, latch: Latch) -> None:
        """That cut is in force here."""
        seen = (switch for switch in self.switches(rollout) if killed_by(switch) == latch.message)
        source = next((switch.source.partition(" ")[0] for switch in seen), "status")
        self._metrics.kills.labels(source=source).inc()
        _log.warning(
            "kill_pushed",
            rollout=rollout.metadata.key,
            artifact=latch.artifact_id,
            attempt=latch.attempt,
            message=latch.message,
        )

    def all_switches(self) -> Iterator[tuple[str, Switch]]:
        """Every switch, with the key of the rollout that names it; empty for one that nobody names."""
        for observed in self._rollouts.list():
            for switch in self._named(observed.rollout):
                yield observed.rollout.metadata.key, switch
        for wide in self._maps.everywhere(lambda key: self._rollouts.get(key) is not None):
            yield "", self._wide(wide)

    def spoken(self) -> Mapping[str, datetime]:
        """When each server of flags last spoke; a watch need not."""
        servers = ((source, book) for source, book in self.books.items() if book is not self._maps.book)
        return {source.value: book.answered_at for source, book in servers if book.answered_at}

    def _named(self, rollout: AgentRollout) -> Iterator[Switch]:
        """The switches that the spec names."""
        for each in rollout.spec.kill_switches:
            if each.scope is KillScope.CANDIDATE:
                said = self._look_up(each, rollout.metadata.namespace)
                yield Switch(each.name, _where(each), said.on, each.auto_resume, said.doubt)

    def _wide(self, wide: WideSwitch) -> Switch:
        said = self._maps.book.said(wide.flag)
        return Switch(wide.name, wide.source, said.on, doubt=said.doubt)

    def _features(self, rollout: AgentRollout) -> Iterator[tuple[str, str]]:
        for each in rollout.spec.kill_switches:
            if each.scope is KillScope.FEATURE:
                value = self._look_up(each, rollout.metadata.namespace).value
                text = None if value is None else header_value(value)
                if text is not None:
                    yield f"{FEATURE_HEADER}{each.name}", text

    def _look_up(self, switch: KillSwitch, namespace: str) -> Said:
        return self.books[switch.source].said(switch.flag(namespace))

    def _said(self, source: SwitchSource, flags: frozenset[str] | None) -> None:
        if flags is None:
            concerned = {
                observed.rollout.metadata.key
                for observed in self._rollouts.list()
                if any(each.source is source for each in observed.rollout.spec.kill_switches)
            }
        else:
            concerned = {
                observed.rollout.metadata.key
                for flag in flags
                for observed in self._rollouts.by_index(BY_FLAG, f"{source}/{flag}")
            }
            self._forget(f"{source}/{flag}" for flag in flags)
        self._tell(concerned)

    def _forget(self, flags: Iterable[str]) -> None:
        """Names come and go, those of previews for ever: what nobody names and no source has is kept for nobody."""
        for named in flags:
            source, _, flag = named.partition("/")
            if not self._rollouts.by_index(BY_FLAG, named) and not self._maps.needs(flag):
                self.books[SwitchSource(source)].forget_gone(flag)

    def _widely_changed(self, namespace: str | None) -> None:
        self._tell(
            key for key in list(self._rollouts.keys()) if namespace is None or key.startswith(f"{namespace}/")
        )

    def _tell(self, keys: Iterable[str]) -> None:
        for key in keys:
            for listener in self._listeners:
                listener(key)


def _where(switch: KillSwitch) -> str:
    """Where a switch is thrown, for people."""
    if switch.config_map is not None:
        return f"ConfigMap {switch.config_map.name}, key {switch.config_map.key}"
    return f"{switch.source} flag {switch.flag('')}"
