"""The judge that needs no model: it sees what is broken, and, with a local embedding, what is alike. Meaning it cannot see."""

from __future__ import annotations

from controller.adapters.judges.embedding import Alike
from controller.core.shadow.checks import Checks, decide, differing_steps
from controller.core.shadow.comparison import Case, Outcome
from controller.core.shadow.judgement import Judgement

UNSEEN = "which is better takes understanding, which this judge does not have"


class ChecksJudge:
    """See the module. What it cannot see is a tie."""

    def __init__(self, artifact_id: str, checks: Checks, alike: Alike | None) -> None:
        """``artifact_id`` is the hash of the rest."""
        self.artifact_id = artifact_id
        self._checks = checks
        self._alike = alike

    async def judge(self, case: Case) -> Judgement:
        """See ``Judge.judge``. It raises nothing."""
        if decided := decide(case, self._checks, alone=True):
            return Judgement(decided.outcome, decided.reason, self.artifact_id)
        reason = await self._alike.tie(case) if self._alike else ""
        differs = differing_steps(case) or "the answers differ"
        return Judgement(Outcome.TIE, reason or f"{differs}, and {UNSEEN}", self.artifact_id)

    async def close(self) -> None:
        """It holds nothing."""
