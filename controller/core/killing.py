"""Kill switches: a latch in status that nothing but a release undoes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from controller.api.reasons import ConditionType, Reason
from controller.api.status import KillStatus, RolloutStatus
from controller.core.attempts import attempt_of, tried_anew
from controller.core.outcome import Report, View
from controller.core.snapshot import Latch, Switch

FEATURE_HEADER = "x-agentrollout-flag-"
"""Prefix of the request headers that carry features' flags; routers remove it from what users send."""


def killed_by(switch: Switch) -> str:
    """What is told of a switch that is on; the same in every replica."""
    return f"kill switch {switch.name} ({switch.source}) was turned on"


def latch_of(status: RolloutStatus, switches: Iterable[Switch]) -> Latch | None:
    """The cut that the switches ask for; None if there is no candidate, or nothing against it."""
    candidate = status.candidate
    if candidate is None:
        return None
    on = _strictest(switches)
    message = killed_by(on) if on else status.killed.message if status.killed else ""
    if not message:
        return None
    return Latch(candidate.artifact_id, candidate.attempt, Reason.KILL_SWITCH_ON, message=message)


def fold(
    status: RolloutStatus, switches: tuple[Switch, ...], reported: Latch | None, now: datetime
) -> RolloutStatus:
    """The status with the latch set for a switch that is on, here or as another replica has seen it; or released, where that is enough.

    Args:
        status: The status so far.
        switches: All switches, as this replica knows them.
        reported: A cut that status does not show yet.
        now: The instant of the decision.
    """
    on, known = _strictest(switches), status.killed
    if on is not None:
        found = KillStatus(switch=on.name, source=on.source, since=now, message=killed_by(on))
        if known is None:
            return _with(status, found)
        # Of several that are on, one that needs a person to resume is remembered.
        weaker = any(s.auto_resume and _is(s, known) for s in switches) and not on.auto_resume
        return _with(status, found.model_copy(update={"since": known.since})) if weaker else status
    if known is None and reported is not None and _is_kill(reported, status):
        seen = next((s for s in switches if killed_by(s) == reported.message), None)
        name, source = (seen.name, seen.source) if seen else ("", "another replica")
        return _with(status, KillStatus(switch=name, source=source, since=now, message=reported.message))
    resumes = known is not None and any(s.auto_resume and _is(s, known) for s in switches)
    if resumes and not held_by(status, switches):
        return status.model_copy(update=release(status))
    return status


def held_by(status: RolloutStatus, switches: Iterable[Switch]) -> str:
    """Why a kill cannot be released yet, even if someone resumes; empty if it can, or nothing is killed."""
    if status.killed is None:
        return ""
    on = next((s for s in switches if s.on), None)
    if on is not None:
        return f"turn kill switch {on.name} ({on.source}) off first"
    doubted = next((s for s in switches if s.on is None), None)
    if doubted is not None:
        return (
            f"it is not known whether kill switch {doubted.name} ({doubted.source}) is off: {doubted.doubt}"
        )
    return ""


def release(status: RolloutStatus) -> dict[str, Any]:
    """The changes of the status that release a kill: the version that it took back may start anew, as a new attempt."""
    last = status.last_rollback
    freed = (
        last is not None and last.reason is Reason.KILL_SWITCH_ON and last.artifact_id in status.rolled_back
    )
    return {"killed": None, **(tried_anew(status, last.artifact_id) if last and freed else {})}


def unknown(switches: Iterable[Switch]) -> Report | None:
    """Why no weight rises although no switch is known to be on."""
    doubted = [f"{s.name} ({s.source}): {s.doubt}" for s in switches if s.on is None]
    if not doubted:
        return None
    text = f"no weight rises while it is not known whether kill switches are on: {'; '.join(doubted)}"
    return Report("True", Reason.KILL_SWITCH_UNKNOWN, text)


def report(view: View, status: RolloutStatus) -> Report | None:
    """The condition Killed; None, with nothing to say, leaves it as it is."""
    switches, before = view.snapshot.switches, view.status.condition(ConditionType.KILLED)
    if status.killed is not None:
        return Report("True", Reason.KILL_SWITCH_ON, f"{status.killed.message}; {_way_out(status, switches)}")
    held = unknown(switches)
    if held is not None:
        return Report("Unknown", Reason.KILL_SWITCH_UNKNOWN, held.message)
    old = [f"{s.name} ({s.source}) was off when last heard of: {s.doubt}" for s in switches if s.doubt]
    if old:
        return Report("False", Reason.KILL_SWITCH_STALE, "; ".join(old))
    if before is not None and (before.status == "True" or before.reason is Reason.RELEASED):
        return Report("False", Reason.RELEASED, "the kill was released; the version may start anew")
    if switches or before is not None:
        return Report("False", Reason.KILL_SWITCHES_OFF, "no kill switch is on")
    return None


def _way_out(status: RolloutStatus, switches: Iterable[Switch]) -> str:
    return held_by(status, switches) or "every switch is off: resume to let the version start anew"


def _strictest(switches: Iterable[Switch]) -> Switch | None:
    """Of the switches that are on, one that someone has to resume from if there is one."""
    on = [switch for switch in switches if switch.on]
    return next((s for s in on if not s.auto_resume), on[0] if on else None)


def _is_kill(latch: Latch, status: RolloutStatus) -> bool:
    """Whether it is one that nobody has released; of an earlier attempt is what a replica says that has not heard of the release."""
    return latch.reason is Reason.KILL_SWITCH_ON and latch.attempt >= attempt_of(status, latch.artifact_id)


def _is(switch: Switch, known: KillStatus) -> bool:
    return (switch.name, switch.source) == (known.switch, known.source)


def _with(status: RolloutStatus, found: KillStatus) -> RolloutStatus:
    return status.model_copy(update={"killed": found})
