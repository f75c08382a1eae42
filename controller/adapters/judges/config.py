"""The file of ``--judges``: which judges there are. Keys, URLs and prices are the platform team's, so they are not in the CR."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from controller.adapters.config_files import FilePath, Strict, read_config
from controller.api.quantities import WORD, Duration, parse_duration

DEFAULT = "default"
"""The judge of rollouts that name none."""


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


def _http(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("not a URL of HTTP: write http://host:port/v1")
    return text


class _Section(Strict):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ChecksConfig(_Section):
    """``checks``: beyond what is always checked.

    Attributes:
        forbidden: Regular expressions that no answer may match.
    """

    forbidden: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field((), max_length=100)


class EmbeddingConfig(_Section):
    """``embedding``: similarity by a local model, which may call a tie and nothing else.

    Attributes:
        tie_above: Least cosine of a tie.
    """

    tie_above: float = Field(0.95, gt=0, le=1)


class RubricConfig(_Section):
    """``rubric`` as text of one's own."""

    name: str = Field(min_length=1, max_length=63)
    version: str = Field(min_length=1, max_length=63)
    text: str = Field(min_length=1, max_length=20_000)


class PriceConfig(_Section):
    """``price`` of a million tokens, in the currency of ``budget.cost``."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class ModelConfig(_Section):
    """An entry of ``models``.

    Attributes:
        url: Of an OpenAI-compatible API, with its version: ``https://api.example.com/v1``.
        name: The model as it is asked for.
        answers_as: The model that the endpoint names in its answers, if it is not ``name``: of a gateway's alias or a deployment.
        api_key_file: One line; read for each request. None: the endpoint wants no key.
        price: None: it costs nothing.
        timeout: Of one request, all of it.
        max_output_tokens: Of one answer, those of its reasoning included.
    """

    url: Annotated[str, AfterValidator(_http)]
    name: str = Field(min_length=1, max_length=255)
    answers_as: str | None = Field(None, min_length=1, max_length=255)
    api_key_file: FilePath | None = None
    price: PriceConfig | None = None
    timeout: Duration = parse_duration("60s")
    max_output_tokens: int = Field(1000, ge=50, le=1_000_000)

    @property
    def resolved(self) -> str:
        """The model that is expected to answer."""
        return self.answers_as or self.name


class BudgetConfig(_Section):
    """``budget`` of each rollout and day in UTC."""

    tokens: int = Field(gt=0)
    cost: float | None = Field(None, gt=0)


class JudgeConfig(_Section):
    """One judge. Without ``models`` it is checks, and similarity if ``embedding`` is given."""

    checks: ChecksConfig = ChecksConfig()
    embedding: EmbeddingConfig | None = None
    rubric: str | RubricConfig = "helpfulness"
    models: tuple[ModelConfig, ...] = Field((), max_length=8)
    budget: BudgetConfig | None = None
    concurrency: int = Field(4, ge=1, le=1000)
    health_set: FilePath | None = None

    @model_validator(mode="after")
    def _whole(self) -> JudgeConfig:
        if self.models and self.budget is None:
            raise ValueError("models need a budget: write budget: {tokens: 1000000}")
        if self.budget and self.budget.cost is not None and any(model.price is None for model in self.models):
            raise ValueError("budget.cost needs the price of each model: write price: {input: …, output: …}")
        if not self.models and (self.budget or "rubric" in self.model_fields_set):
            raise ValueError("budget and rubric are for models: name one in models, or leave them out")
        return self


class _JudgesFile(_Section):
    judges: dict[Annotated[str, WORD], JudgeConfig] = Field(min_length=1)


def read_judges(path: Path | None) -> dict[str, JudgeConfig]:
    """The judges by name; without a file one, of checks alone.

    Raises:
        ValueError: If the file cannot be read or is not understood; the message names the field.
    """
    if path is None:
        return {DEFAULT: JudgeConfig()}
    return read_config(path, _JudgesFile, "not a field that is read here").judges
