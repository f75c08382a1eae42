"""One model behind one OpenAI-compatible API: asked within a budget, again where that may help, left alone where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from openai import AsyncOpenAI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
)
from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from controller.adapters.config_files import CredentialsError, read_secret
from controller.adapters.judges.config import ModelConfig
from controller.core.shadow.breaker import Breaker
from controller.core.shadow.budget import Ledger, Spend
from controller.core.shadow.judgement import JudgeError
from controller.core.shadow.opinion import Better, same_model
from controller.core.shadow.prompt import Prompt
from controller.runtime.clock import Clock

TRIES = 5
LONGEST_WAIT = 60.0
"""Seconds between two tries; an endpoint that asks for more is left alone for as long as it asks."""

_TRANSIENT_STATUS = frozenset({408, 409, 429})
_ABOUT_THE_REQUEST = frozenset({400, 413, 422})
"""Statuses that say nothing about the next request."""
_FULL_JITTER = wait_random_exponential(multiplier=1, max=30)
_LONGEST_REASON = 2_000


class ModelFailedError(JudgeError):
    """One model gave no opinion.

    Attributes:
        again: Whether asking the same again at once may help.
        after: Seconds to wait before asking again.
        rest: The same, if that is too long to wait for: nobody asks before.
        spent: What it cost; None if nobody knows.
        counts: Whether it says something about the model, not the request.
    """

    def __init__(
        self,
        message: str,
        *,
        transient: bool = False,
        again: bool = False,
        after: float = 0.0,
        spent: Spend | None = None,
        counts: bool = True,
    ) -> None:
        """See the class."""
        super().__init__(message, transient=transient)
        self.again = again and after <= LONGEST_WAIT
        self.after = after
        self.rest = after if after > LONGEST_WAIT else 0.0
        self.spent = spent
        self.counts = counts


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a model said.

    Attributes:
        better: Of the two answers.
        reason: In its words.
        model: As it named itself.
    """

    better: Better
    reason: str
    model: str


class _Said(BaseModel):
    """The form of a reply."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(max_length=_LONGEST_REASON)
    better: Better


class Endpoint:
    """See the module."""

    def __init__(self, config: ModelConfig, ledger: Ledger, clock: Clock, at_once: asyncio.Semaphore) -> None:
        """``at_once`` limits the requests of all models of a judge."""
        self.config = config
        self._ledger = ledger
        self._clock = clock
        self._at_once = at_once
        self._breaker = Breaker()
        self._client = AsyncOpenAI(base_url=config.url, api_key=_key(config), max_retries=0)
        provider = OpenAICompatibleProvider("judge", openai_client=self._client)
        self._model = OpenAIChatModel(config.name, provider=provider)

    async def close(self) -> None:
        """End its connections."""
        await self._client.close()

    async def ask(self, prompt: Prompt, rollout: str, spends: list[Spend]) -> Opinion:
        """Its opinion. What each try cost is appended to ``spends``.

        Raises:
            ModelFailedError: If it gave none.
            OverBudgetError: If a request would exceed the budget; it is not sent.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(TRIES),
            wait=_wait,
            retry=retry_if_exception(lambda error: isinstance(error, ModelFailedError) and error.again),
            sleep=self._clock.sleep,
            reraise=True,
        )
        return await retrying(self._try, prompt, rollout, spends)

    async def _try(self, prompt: Prompt, rollout: str, spends: list[Spend]) -> Opinion:
        async with self._at_once:
            if not self._breaker.admits(self._clock.monotonic()):
                raise ModelFailedError(f"{self.config.name} has failed and is left alone", transient=True)
            learnt = False
            try:
                opinion = await self._paid(prompt, rollout, spends)
                self._breaker.succeeded()
                learnt = True
            except ModelFailedError as error:
                if error.counts:
                    self._breaker.failed(self._clock.monotonic(), error.rest)
                    learnt = True
                raise
            finally:
                if not learnt:
                    self._breaker.gave_up()
        return opinion

    async def _paid(self, prompt: Prompt, rollout: str, spends: list[Spend]) -> Opinion:
        """Ask within the budget. What nobody knows the price of has cost what was set aside, so that none is too low."""
        most = self._spend(prompt.most_tokens, self.config.max_output_tokens)
        reservation = self._ledger.reserve(rollout, self._clock.now().date(), most)
        spent = most
        try:
            response = await self._sent(prompt)
            spent = self._used(response) or most
            return self._read(response)
        except ModelFailedError as error:
            spent = spent if error.spent is None else error.spent
            raise
        finally:
            self._ledger.settle(reservation, spent)
            spends.append(spent)

    async def _sent(self, prompt: Prompt) -> ModelResponse:
        name, seconds = self.config.name, self.config.timeout.total_seconds()
        messages = [ModelRequest([SystemPromptPart(prompt.instructions), UserPromptPart(prompt.data)])]
        settings = ModelSettings(max_tokens=self.config.max_output_tokens, temperature=0.0, timeout=seconds)
        try:
            async with asyncio.timeout(seconds):
                return await model_request(
                    self._model,
                    messages,
                    model_settings=settings,
                    # Of a prompted output the API is told that it is JSON, wherever it knows about that.
                    model_request_parameters=ModelRequestParameters(output_mode="prompted"),
                )
        except TimeoutError:
            raise ModelFailedError(
                f"{name} did not answer within {seconds:g} s", transient=True, again=True
            ) from None
        except CredentialsError as error:
            raise ModelFailedError(str(error), spent=Spend(), transient=True) from error
        except ModelAPIError as error:
            raise _failure(name, error) from error
        except AgentRunError as error:
            raise ModelFailedError(f"{name} gave an answer that cannot be read") from error

    def _read(self, response: ModelResponse) -> Opinion:
        name, answered = self.config.name, response.model_name or ""
        if not same_model(answered, self.config.resolved):
            raise ModelFailedError(
                f"{name} was asked, and {answered or 'a model without a name'} answered: set answersAs if they are the same"
            )
        if not response.text:
            raise ModelFailedError(f"{name} refused or said nothing")
        try:
            said = _Said.model_validate_json(_unfenced(response.text))
        except ValidationError as error:
            what = "was cut short" if response.finish_reason == "length" else "is not in the form asked for"
            raise ModelFailedError(f"the reply of {name} {what}") from error
        return Opinion(said.better, said.reason, answered)

    def _used(self, response: ModelResponse) -> Spend | None:
        usage = response.usage
        return self._spend(usage.input_tokens, usage.output_tokens) if usage.total_tokens else None

    def _spend(self, tokens_in: int, tokens_out: int) -> Spend:
        price = self.config.price
        cost = (tokens_in * price.input + tokens_out * price.output) / 1e6 if price else 0.0
        return Spend(tokens_in + tokens_out, cost)


def _failure(name: str, error: ModelAPIError) -> ModelFailedError:
    """What an error of the API means. An error status was not paid for; of a broken connection nobody knows."""
    after = error.retry_after or 0.0
    if isinstance(error, ModelHTTPError):
        status = error.status_code
        passing = status in _TRANSIENT_STATUS or status >= 500
        transient = passing and not isinstance(error, ModelQuotaExceededError)
        return ModelFailedError(
            f"{name} answered with status {status}",
            transient=transient,
            again=transient,
            after=after,
            spent=Spend(),
            counts=not (isinstance(error, ModelRequestRejectedError) and status in _ABOUT_THE_REQUEST),
        )
    unsent = isinstance(error, ModelConnectionError) and error.phase in {"pool", "connect"}
    return ModelFailedError(
        f"{name} could not be reached, or broke off its answer",
        transient=True,
        again=True,
        after=after,
        spent=Spend() if unsent else None,
    )


def _wait(state: RetryCallState) -> float:
    """Exponential with full jitter, on top of what the endpoint asks for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, ModelFailedError) else 0.0
    return asked + float(_FULL_JITTER(state))


def _key(config: ModelConfig) -> str | Callable[[], Awaitable[str]]:
    """For each request anew, so that a rotated key counts at once."""
    path = config.api_key_file
    if path is None:
        return "none"

    async def read() -> str:
        return read_secret(path)

    return read


def _unfenced(text: str) -> str:
    """Without the fence that models like to put around JSON."""
    text = text.strip()
    return (
        text[text.index("{") : text.rindex("}") + 1]
        if text.startswith("```") and "{" in text and "}" in text
        else text
    )
