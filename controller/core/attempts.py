"""How often artifacts were tried, and what it takes to try one anew."""

from __future__ import annotations

from typing import Any

from controller.api.status import Attempt, RolloutStatus

KEPT_ATTEMPTS = 100
"""Of so many artifacts it is known how often they were tried."""


def attempt_of(status: RolloutStatus, artifact: str) -> int:
    """Which attempt of the artifact the next one is, or the one on its way."""
    return next((each.attempt for each in status.attempts if each.artifact_id == artifact), 1)


def tried_anew(status: RolloutStatus, artifact: str) -> dict[str, Any]:
    """The changes of the status by which an artifact that was taken back may start again."""
    others = [each for each in status.attempts if each.artifact_id != artifact]
    again = Attempt(artifact_id=artifact, attempt=attempt_of(status, artifact) + 1)
    return {
        "rolled_back": [each for each in status.rolled_back if each != artifact],
        "attempts": [*others, again][-KEPT_ATTEMPTS:],
    }
