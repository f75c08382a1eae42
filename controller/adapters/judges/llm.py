"""The judge that asks a model: pairwise, blind, in both orders, by a rubric, and never one of the versions' own models."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import reduce

from controller.adapters.judges.embedding import Alike
from controller.adapters.judges.endpoint import Endpoint, ModelFailedError, Opinion
from controller.core.shadow.budget import Spend
from controller.core.shadow.checks import Checks, decide
from controller.core.shadow.comparison import Case, Outcome
from controller.core.shadow.judgement import JudgeError, Judgement, OverBudgetError
from controller.core.shadow.opinion import combined, may_be_same_model, outcome_of
from controller.core.shadow.prompt import Prompt, Rubric, prompt


def _nonce() -> str:
    return secrets.token_hex(12)


class LlmJudge:
    """See the module. What needs no understanding is decided without a model."""

    def __init__(
        self,
        artifact_id: str,
        checks: Checks,
        alike: Alike | None,
        rubric: Rubric,
        chain: Sequence[Endpoint],
        nonce: Callable[[], str] = _nonce,
    ) -> None:
        """``chain`` is asked in its order until a model gives an opinion on both orders."""
        self.artifact_id = artifact_id
        self._checks = checks
        self._alike = alike
        self._rubric = rubric
        self._chain = tuple(chain)
        self._nonce = nonce

    async def judge(self, case: Case) -> Judgement:
        """See ``Judge.judge``.

        Both orders are judged by one model: two models that disagree say nothing about the answers.

        Raises:
            JudgeError: If no model of the chain gave an opinion on both orders.
            OverBudgetError: If a request would exceed the budget; it is not sent.
        """
        if decided := decide(case, self._checks, alone=False):
            return Judgement(decided.outcome, decided.reason, self.artifact_id)
        if self._alike and (reason := await self._alike.tie(case)):
            return Judgement(Outcome.TIE, reason, self.artifact_id)
        spends: list[Spend] = []
        failures: list[ModelFailedError] = []
        for endpoint in self._chain:
            try:
                return await self._both_orders(endpoint, case, spends)
            except ModelFailedError as error:
                failures.append(error)
            except OverBudgetError as error:
                raise OverBudgetError(str(error), **_total(spends)._asdict()) from None
        raise JudgeError(
            "; ".join(map(str, failures)),
            transient=any(failure.transient for failure in failures),
            **_total(spends)._asdict(),
        )

    async def close(self) -> None:
        """End all connections."""
        for endpoint in self._chain:
            await endpoint.close()

    async def _both_orders(self, endpoint: Endpoint, case: Case, spends: list[Spend]) -> Judgement:
        _refuse_own(endpoint.config.resolved, case)
        forward, backward = [
            await self._opinion(endpoint, case, spends, other_first=other_first)
            for other_first in (False, True)
        ]
        outcomes = (
            outcome_of(forward.better, other_first=False),
            outcome_of(backward.better, other_first=True),
        )
        agreed = outcomes[0] is outcomes[1]
        total = _total(spends)
        return Judgement(
            combined(*outcomes),
            f"{'' if agreed else 'the orders disagree; '}with stable's answer first: {forward.reason}",
            self.artifact_id,
            forward.model,
            total.tokens,
            total.cost,
            agreed=agreed,
        )

    async def _opinion(
        self, endpoint: Endpoint, case: Case, spends: list[Spend], *, other_first: bool
    ) -> Opinion:
        asked = self._prompt(case, other_first=other_first)
        opinion = await endpoint.ask(asked, case.subject.rollout, spends)
        _refuse_own(opinion.model, case)
        return opinion

    def _prompt(self, case: Case, *, other_first: bool) -> Prompt:
        while True:
            try:
                return prompt(case, self._rubric, self._nonce(), other_first=other_first)
            except ValueError:  # the nonce stands in the data: one in 2^96 by chance
                continue


def _total(spends: list[Spend]) -> Spend:
    return reduce(Spend.plus, spends, Spend())


def _refuse_own(model: str, case: Case) -> None:
    """A model may not judge its own answers: it prefers them."""
    if own := next((name for name in case.subject.models if may_be_same_model(name, model)), ""):
        raise ModelFailedError(f"{model} may not judge answers of {own}", counts=False)
