"""Guardrails with a query of one's own: its value must stay within limits.

One value says nothing about chance. What stands for evidence is how long it was seen beyond its limit, and on how many
events it rests; what is not known neither counts as beyond the limit nor ends the time that was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.api.delivery import Stage
from controller.api.guardrails import ARTIFACT, REVISION, Guardrail, GuardrailName
from controller.api.reasons import Reason, Verdict
from controller.api.status import Counts, GuardrailEvidence, GuardrailStatus, RolloutStatus, VersionRef
from controller.core.answers import NothingError, UnknownError, value_of
from controller.core.daily_cost import asked_of, is_due
from controller.core.snapshot import Samples, Snapshot
from controller.core.stages import comparisons

MISSED = 2
"""Evaluations further apart than so many intervals do not tell what was between them."""


def about(query: str, version: VersionRef) -> str:
    """The query, about one version if it says where."""
    return query.replace(ARTIFACT, version.artifact_id).replace(REVISION, version.revision)


def queries(snapshot: Snapshot, now: datetime) -> tuple[str, ...]:
    """What is to be asked at an evaluation; nothing before the candidate serves anybody."""
    status, stages, asked = snapshot.rollout.status, snapshot.stages, dict[str, None]()
    if not comparisons(status, stages):
        return ()
    for guardrail in snapshot.analysis.guardrails:
        if guardrail.name == GuardrailName.DAILY_COST and is_due(*_known(status, guardrail), now):
            asked |= dict.fromkeys(asked_of(guardrail, snapshot).values())
        for version in _served(guardrail, status, stages):
            texts = (guardrail.query, guardrail.samples if version is status.candidate else None)
            asked |= {about(text, version): None for text in texts if text is not None}
    return tuple(asked)


def _known(
    status: RolloutStatus, guardrail: Guardrail
) -> tuple[GuardrailEvidence | None, GuardrailStatus | None]:
    states = status.evidence.guardrails if status.evidence else []
    return (
        next((each for each in states if each.name == guardrail.name), None),
        next((each for each in status.guardrails if each.name == guardrail.name), None),
    )


def queried(
    guardrail: Guardrail, snapshot: Snapshot, status: RolloutStatus, state: GuardrailEvidence
) -> tuple[GuardrailEvidence, GuardrailStatus]:
    """For how long its value was beyond the limit after one more evaluation, and what that makes of it."""
    assert snapshot.samples is not None  # noqa: S101  the caller looked
    candidate, *stable = _served(guardrail, status, snapshot.stages)
    seen = _Seen(guardrail, state, snapshot.samples)
    try:
        return seen.judged(candidate, stable, MISSED * snapshot.analysis.interval)
    except UnknownError as error:
        return seen.unknown(error.verdict, str(error))


@dataclass(frozen=True, slots=True)
class _Seen:
    """One guardrail at one evaluation."""

    guardrail: Guardrail
    state: GuardrailEvidence
    samples: Samples

    def judged(
        self, candidate: VersionRef, stable: list[VersionRef], gap: timedelta
    ) -> tuple[GuardrailEvidence, GuardrailStatus]:
        """With a value of the candidate.

        Raises:
            UnknownError: If it has none.
        """
        value = self._value("query", candidate)
        events = math.floor(self._value("samples", candidate)) if self.guardrail.samples else 0
        numbers = f"the query gives {value:.4g}, {_allowed(self.guardrail)}"
        if self.guardrail.samples and events < self.guardrail.min_samples:
            message = f"{events} of {self.guardrail.min_samples} events counted: {numbers}"
            return self.unknown(Verdict.INSUFFICIENT, message, value=value, events=events)
        if not self._is_beyond(value):
            state = self.state.model_copy(update={"beyond": timedelta(0), "beyond_at": None})
            return state, self._status(Verdict.PASS, f"within the limit: {numbers}", value, events)
        for version in stable:
            if (beside := self._of_stable(version)) is not None:
                message = f"stable breaks the limit too, its query gives {beside:.4g}: {numbers}"
                return self.unknown(
                    Verdict.ERROR, message, Reason.BASELINE_UNHEALTHY, value=value, events=events
                )
        state = self._longer(gap)
        lasted = f"{state.beyond.total_seconds():.0f} of {self.guardrail.holds_for.total_seconds():.0f} s"
        verdict, reason = Verdict.INSUFFICIENT, None
        if state.beyond >= self.guardrail.holds_for:
            verdict, reason = Verdict.FAIL, Reason.GUARDRAIL_BROKEN
        message = f"beyond the limit for {lasted}: {numbers}"
        return state, self._status(verdict, message, value, events, reason)

    def unknown(
        self,
        verdict: Verdict,
        message: str,
        reason: Reason | None = None,
        *,
        value: float | None = None,
        events: int = 0,
    ) -> tuple[GuardrailEvidence, GuardrailStatus]:
        """Whatever is between this evaluation and the next one was not seen beyond the limit."""
        state = self.state.model_copy(update={"beyond_at": None})
        return state, self._status(verdict, message, value, events, reason)

    def _longer(self, gap: timedelta) -> GuardrailEvidence:
        since = self.state.beyond_at
        passed = self.samples.at - since if since else timedelta(0)
        counted = passed if timedelta(0) < passed <= gap else timedelta(0)
        return self.state.model_copy(
            update={"beyond": self.state.beyond + counted, "beyond_at": self.samples.at}
        )

    def _of_stable(self, version: VersionRef) -> float | None:
        """Stable's value if it is beyond the limit; one that has none yet is not.

        Raises:
            UnknownError: If it cannot be read.
        """
        try:
            value = self._value("query", version)
        except NothingError:
            return None
        return value if self._is_beyond(value) else None

    def _is_beyond(self, value: float) -> bool:
        least, most = self.guardrail.min, self.guardrail.max
        return (least is not None and value < least) or (most is not None and value > most)

    def _value(self, field: str, version: VersionRef) -> float:
        return value_of(self.samples.answers, about(getattr(self.guardrail, field), version), field)

    def _status(
        self, verdict: Verdict, message: str, value: float | None, events: int, reason: Reason | None = None
    ) -> GuardrailStatus:
        return GuardrailStatus(
            name=self.guardrail.name,
            verdict=verdict,
            action=self.guardrail.follows,
            reason=reason,
            candidate=Counts(total=max(events, 0)),
            value=value,
            message=message,
        )


def _served(guardrail: Guardrail, status: RolloutStatus, stages: Sequence[Stage]) -> list[VersionRef]:
    """Whom a query is about: the candidate, then stable if the query tells them apart while it serves beside."""
    compared = comparisons(status, list(stages)) if guardrail.query is not None else ()
    beside = guardrail.asks_of_versions and any(each.baseline for each in compared)
    versions = (status.candidate, status.stable if beside else None) if compared else ()
    return [version for version in versions if version]


def _allowed(guardrail: Guardrail) -> str:
    least, most = guardrail.min, guardrail.max
    limits = [f"at least {least:g}"] if least is not None else []
    limits += [f"at most {most:g}"] if most is not None else []
    return f"{' and '.join(limits)} is allowed"
