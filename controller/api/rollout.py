"""AgentRollout: the wanted agent and how to deliver it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from controller.api.agent import Agent
from controller.api.delivery import Analysis, HeaderName, Stage, default_stages
from controller.api.kill_switches import MAX_SWITCHES, KillScope, KillSwitch
from controller.api.model import Model, ObjectMeta
from controller.api.quantities import PERCENT_CEL, Duration, checked_text, rule
from controller.api.shadow import Shadow
from controller.api.status import RolloutStatus
from controller.api.windows import Window

_IS_GENERAL = "!has({0}.audience) && has({0}.weight)"
_NUMBER = "double({0}.weight.replace('%', ''))"
# Rules run over `self` itself: the API server knows the bounds of its items, and loses them behind filter().
_SORTED = f"self.map(s, {_IS_GENERAL.format('s')}, {_NUMBER.format('s')}).isSorted()"
_DISTINCT = (
    f"self.all(s, !({_IS_GENERAL.format('s')}) || "
    f"self.exists_one(t, {_IS_GENERAL.format('t')} && {_NUMBER.format('t')} == {_NUMBER.format('s')}))"
)

# A weight that is none is refused where it stands; comparing it would only add an error that nobody understands.
_READABLE = f"self.all(s, !has(s.weight) || s.weight.matches({PERCENT_CEL}))"
_LAST = "self[self.size() - 1]"

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_HOST = rf"^{_LABEL}(\.{_LABEL})*$"

Host = Annotated[
    str,
    Field(max_length=253, pattern=_HOST),
    checked_text(
        253,
        rule(
            f"self.matches(r'{_HOST}')",
            "must be a host name in lower case without scheme and port, such as support.example.com",
        ),
    ),
]


SHADOW_IS_TAKEN = (
    "shadow is the name of what spec.shadow compares: choose another name for a metric of your own"
)


class Delivery(StrEnum):
    """How prompts and model settings reach the running agent."""

    DEPLOYED = "Deployed"
    """The backend was deployed for this artifact: another artifact needs another backend."""
    HEADER = "Header"
    """The agent loads the artifact that the ``x-agentrollout-artifact`` header names."""


class DeadlineAction(StrEnum):
    """What follows when a candidate makes no progress for too long."""

    HOLD = "Hold"
    """The weight stays and Healthy is False: someone should look."""
    ROLLBACK = "Rollback"
    """The candidate is taken back."""


class InFlightAction(StrEnum):
    """What becomes of the answers that a version has begun when it loses its users."""

    DRAIN = "Drain"
    """They go on to their end, however long that takes."""
    CUT = "Cut"
    """They end."""


class InFlight(Model):
    """What becomes of answers that are under way."""

    on_rollback: InFlightAction = Field(
        default=InFlightAction.DRAIN,
        description="What becomes of the answers that a candidate has begun when it is taken back. Drain: they go on to "
        "their end. Cut: they end too, after the time that the routers' Envoys were given as --drain-time-s (600 s "
        "unless told). Promotion cuts nothing. Changing Cut to Drain while a candidate serves ends its answers once "
        "more.",
    )
    on_kill: InFlightAction | None = Field(
        default=None,
        description="The same when a kill switch takes it back. Left out: Cut where spec.killSwitches has a switch for the "
        "candidate, else as onRollback.",
    )


class EnvoyTraffic(Model):
    """The built-in Envoy router."""

    hosts: Annotated[list[Host], Field(min_length=1, max_length=16)] = Field(
        description="Host names that this rollout serves, in lower case and without port.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )


class Affinity(Model):
    """What sticks to one version: the conversation."""

    header: HeaderName = Field(
        default="x-session-id", description="Request header that identifies the conversation."
    )


class Traffic(Model):
    """Who routes the traffic, and what sticks together."""

    envoy: EnvoyTraffic = Field(description="The built-in Envoy router.")
    affinity: Affinity = Field(
        default_factory=Affinity, description="What sticks to one version: the conversation."
    )


class RolloutSpec(Model):
    """What is wanted. A change of ``agent``, and only that, is a new version."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.analysis) || !has(self.analysis.advanceOn) || self.analysis.advanceOn != 'Evidence' || "
                    "!has(self.stages) || self.stages.size() != 1",
                    "Evidence needs a stage in which stable serves beside the candidate: put one before 100%, or take Time",
                    fieldPath=".analysis.advanceOn",
                ),
                rule(
                    "!has(self.shadow) || !has(self.analysis) || !has(self.analysis.metrics) || "
                    "!self.analysis.metrics.exists(m, m.name == 'shadow')",
                    SHADOW_IS_TAKEN,
                    fieldPath=".analysis.metrics",
                ),
            ]
        }
    )

    agent: Agent = Field(
        description="The agent as it is wanted. A change in here, and only here, is a new version."
    )
    delivery: Delivery = Field(
        default=Delivery.DEPLOYED,
        description="How prompts and model settings reach the running agent. Deployed: the backend was deployed for "
        "this version, so another version needs another backend. Header: the agent loads the version that the "
        "x-agentrollout-artifact header of a request names.",
    )
    traffic: Traffic = Field(description="Who routes the traffic, and what sticks together.")
    stages: Annotated[list[Stage], Field(min_length=1, max_length=16)] = Field(
        default_factory=default_stages,
        description="The steps in which a new version gets traffic. Left out: 1%, 10%, 50%, 100%.",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"!{_READABLE} || ({_SORTED} && {_DISTINCT})",
                    "weights of stages without audience must strictly increase, such as 1%, 10%, 50%, 100%",
                ),
                rule(
                    f"self.size() == 0 || !{_READABLE} || "
                    f"({_IS_GENERAL.format(_LAST)} && {_NUMBER.format(_LAST)} == 100.0)",
                    "the last stage must have weight 100% and no audience",
                ),
                rule(
                    "self.filter(s, has(s.audience)).size() <= 1",
                    "only one stage may have an audience in this version: put all its values into that stage",
                ),
            ]
        },
    )
    shadow: Shadow | None = Field(
        default=None,
        description="Before its first stage a new version answers a part of the requests beside stable, to nobody, and the "
        "answers are compared (docs/shadow.md). Left out: it does not.",
    )
    analysis: Analysis = Field(
        default_factory=Analysis, description="How evidence about a new version is gathered and judged."
    )
    kill_switches: Annotated[list[KillSwitch], Field(max_length=MAX_SWITCHES)] = Field(
        default_factory=list,
        description="Flags by which people take a version from everybody at once (docs/kill-switches.md). One that is on "
        "suffices. One of which nothing is known yet holds the weight. Takes effect at once, also on a delivery that is "
        "under way.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    in_flight: InFlight = Field(
        default_factory=InFlight,
        description="What becomes of answers that are under way. Takes effect at once, also on a delivery that is "
        "under way.",
    )
    windows: Annotated[list[Window], Field(max_length=16)] = Field(
        default_factory=list,
        description="When weight may rise: in any of these. Outside of them a candidate keeps what it has, is watched, and is taken "
        "back if it fails. Left out: at any time. Takes effect at once, also on a delivery that is under way.",
    )
    paused: bool = Field(
        default=False,
        description="While true no weight rises. The candidate keeps what it has, is watched, and is taken back if it "
        "fails; minDuration goes on. Takes effect at once, also on a delivery that is under way.",
    )
    progress_deadline: Duration = Field(
        default=timedelta(hours=1),
        description="How long a candidate may make no progress beyond a stage's minDuration. Time in which it is "
        "paused, waits for approval or a window, the evidence cannot be read or requests are too few does not count.",
    )
    on_progress_deadline: DeadlineAction = Field(
        default=DeadlineAction.HOLD,
        description="What follows then. Hold: the weight stays and Healthy is False. Rollback: the candidate is taken "
        "back.",
    )
    revision_history_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        default=5, description="How many old AgentRevisions are kept."
    )

    action_history_limit: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=100,
        description="How many RolloutActions are kept of those that were decided: the newest. They are the record of who did "
        "what, and why.",
    )

    @property
    def all_stages(self) -> list[Stage]:
        """The stages, after the one in the shadow if there is one."""
        return [self.shadow.stage, *self.stages] if self.shadow else self.stages

    @property
    def on_kill(self) -> InFlightAction:
        """What becomes of the answers that a candidate has begun when a kill switch takes it back."""
        if self.in_flight.on_kill is not None:
            return self.in_flight.on_kill
        has_switch = any(switch.scope is KillScope.CANDIDATE for switch in self.kill_switches)
        return InFlightAction.CUT if has_switch else self.in_flight.on_rollback


class AgentRollout(Model):
    """Delivers new versions of one agent step by step and takes them back on evidence."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 52",
                    "must have at most 52 characters of a-z, 0-9 and -",
                    fieldPath=".metadata.name",
                )
            ]
        }
    )

    metadata: ObjectMeta
    spec: RolloutSpec
    status: RolloutStatus = Field(default_factory=RolloutStatus)

    @property
    def is_paused(self) -> bool:
        """Whether nothing may rise, by the spec or by a person; both have to let go."""
        return self.spec.paused or self.status.pause is not None
