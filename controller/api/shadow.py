"""How a candidate answers beside stable, to nobody, before it serves anybody. Frozen when a candidate is accepted."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from controller.api.delivery import WHOLE_PPM, HeaderName, Stage
from controller.api.model import Model
from controller.api.quantities import (
    WORD,
    Duration,
    Half,
    Portion,
    Waiting,
    is_no_longer,
    rule,
    word,
)

SHADOW = "shadow"
"""What the stage is called, and the metric."""

NEEDED_HEADERS = ("host", "content-length", "content-type")
"""Without them a request is another one."""

_NEEDED = "mirrored requests need host, content-length and content-type: remove them from this list"
_ROUTERS = "headers that begin with x-agentrollout- are the router's own"
_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(minutes=10)
_CROSSED = "minDuration (default 10m) must not be longer than maxDuration (default 2h)"


class InsufficientAction(StrEnum):
    """What follows when comparisons still say too little after ``maxDuration``."""

    HOLD = "Hold"
    """The candidate stays in the shadow."""
    ADVANCE = "Advance"
    """It goes on to its first stage, unless it is suspected to be worse."""
    ROLLBACK = "Rollback"
    """It is taken back."""


class RegressionAction(StrEnum):
    """What follows when the candidate's answers are shown to be worse in the shadow."""

    ROLLBACK = "Rollback"
    """It is taken back."""
    HOLD = "Hold"
    """It stays in the shadow, and people are told."""


class Shadow(Model):
    """Before its first stage a candidate answers a part of the requests beside stable, and nobody gets its answers."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(is_no_longer("minDuration", "10m", "maxDuration", "2h"), _CROSSED)
            ]
        }
    )

    fraction: Half = Field(
        default=100_000,
        description="The share of the conversations whose requests the candidate answers too, up to 50%. The routers allow a "
        "quarter of stable's users at most once the candidate has users of its own.",
    )
    noise: Portion = Field(
        default=150_000,
        description="The share of these requests that stable answers a second time, so that it is known how much it differs "
        "from itself. 0%: none, and losses are compared with wins alone.",
    )
    judge: Annotated[str, WORD, word("default")] = Field(
        default="default",
        description="Who compares the answers: the name of a judge that agentrollout shadow serve was given by --judges.",
    )
    min_comparisons: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=100, description="So many of the candidate's answers must have been judged."
    )
    min_duration: Duration = Field(
        default=timedelta(minutes=10), description="The candidate stays in the shadow at least this long."
    )
    max_duration: Duration = Field(
        default=timedelta(hours=2),
        description="How long comparisons that say too little are waited for.",
    )
    on_insufficient: InsufficientAction = Field(
        default=InsufficientAction.HOLD,
        description="What follows then. Hold: the candidate stays in the shadow. Advance: it goes on to its first stage, unless "
        "it is suspected to be worse. Rollback: it is taken back. Comparisons that cannot be read are always waited for.",
    )
    on_regression: RegressionAction = Field(
        default=RegressionAction.ROLLBACK,
        description="What follows when the candidate's answers are shown to be worse in the shadow. Rollback: it is taken back. "
        "Hold: it stays in the shadow, and people are told. In later stages it is taken back.",
    )
    clustering: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=3.0,
        description="How strongly losses come in bunches within conversations; 1 for independent requests. Less than "
        "analysis.clustering, since each answer is compared by itself, on the conversation that stable had.",
    )
    timeout: Waiting = Field(
        default=timedelta(seconds=60),
        description="How long an answer to nobody may take, from 1s to 10m. Longer is a loss.",
    )
    remove_headers: Annotated[list[HeaderName], Field(max_length=32)] = Field(
        default_factory=list,
        description="Further request headers that reach nobody but stable. Those that carry credentials by custom never do.",
        json_schema_extra={
            "x-kubernetes-list-type": "set",
            "x-kubernetes-validations": [
                rule(f"!self.exists(h, h in {list(NEEDED_HEADERS)})", _NEEDED),
            ],
        },
    )
    recorded_tools: bool = Field(
        default=False,
        description="Whether the shadow process drives finished runs of chat completions, in which the client ran tools, again "
        "from their start: the candidate is asked for every step, and its tool calls get the results that stable's had. No "
        "tool is run. A call that stable did not make ends the run as diverged, without a verdict.",
    )
    also_in_stages: bool = Field(
        default=False,
        description="Whether requests are compared in the stages up to 50% too. What they show can take the candidate back.",
    )

    @property
    def stage(self) -> Stage:
        """The stage before all others, in which the candidate serves nobody."""
        return Stage(
            name=SHADOW,
            weight=0,
            min_duration=self.min_duration,
            min_requests=self.min_comparisons,
        )

    @property
    def problem(self) -> str:
        """What the CRD refuses as well, in a sentence that names the field; an object may have been stored before it did."""
        headers = self.remove_headers
        problems = {
            "fraction: must be above 0% and up to 50%": not 0 < self.fraction <= WHOLE_PPM // 2,
            "minDuration: must be a duration above zero, such as 15s, 10m or 1h30m": not self.min_duration,
            f"minDuration: {_CROSSED}": self.min_duration > self.max_duration,
            "timeout: must be from 1s to 10m": not _SHORTEST <= self.timeout <= _LONGEST,
            f"removeHeaders: {_NEEDED}": not set(headers).isdisjoint(NEEDED_HEADERS),
            f"removeHeaders: {_ROUTERS}": any(each.startswith("x-agentrollout-") for each in headers),
        }
        return next((words for words, is_so in problems.items() if is_so), "")
