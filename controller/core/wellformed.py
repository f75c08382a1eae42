"""Rules of the CRD that run over several fields, or that the models read past, asked once more.

The API server asks them when something is applied. An object may have been stored before a rule existed.
"""

from __future__ import annotations

from datetime import timedelta

from controller.api.agent import MAX_PROMPTS, Agent, Code
from controller.api.delivery import AdvanceOn, Analysis, Stage
from controller.api.rollout import SHADOW_IS_TAKEN, RolloutSpec
from controller.api.shadow import SHADOW
from controller.api.windows import Window
from controller.core.traffic import WHOLE_PPM

_MIN_INTERVAL = timedelta(milliseconds=100)


def broken_rule(spec: RolloutSpec) -> str:
    """The first rule that the spec breaks, as a sentence that names the field; empty if it breaks none."""
    each = (_stage(f"spec.stages[{number}]", stage) for number, stage in enumerate(spec.stages))
    return (
        _code(spec.agent.code)
        or _prompts(spec.agent)
        or next(filter(None, each), "")
        or _stages(spec.stages)
        or _analysis(spec.analysis)
        or _advance_on(spec)
        or _shadow(spec)
        or _windows(spec.windows)
        or _kill_switches(spec)
    )


def _windows(windows: list[Window]) -> str:
    number = next((n for n, window in enumerate(windows) if window.duration <= timedelta(0)), None)
    if number is None:
        return ""
    return f"spec.windows[{number}].duration: must be a duration above zero, such as 15s, 10m or 1h30m"


def _code(code: Code) -> str:
    if sum(place is not None for place in (code.url, code.service, code.image)) != 1:
        return "spec.agent.code: exactly one of url, service and image must be set"
    if code.image is not None:
        return "spec.agent.code.image: image is not supported by this version: deploy it and use service"
    return ""


def _prompts(agent: Agent) -> str:
    if agent.prompts.keys() & agent.prompts_from.keys():
        return (
            "spec.agent.promptsFrom: a prompt stands in prompts or in promptsFrom, not in both: "
            "remove it from one of them"
        )
    if len(agent.prompts) + len(agent.prompts_from) > MAX_PROMPTS:
        return f"spec.agent.promptsFrom: prompts and promptsFrom together must not have more than {MAX_PROMPTS} names"
    return ""


def _stage(place: str, stage: Stage) -> str:
    if stage.audience is None and stage.weight is None:
        return f"{place}: a stage without audience needs a weight"
    if stage.weight_ppm <= 0:
        return f"{place}.weight: must be above 0% and up to 100%"
    if stage.min_duration <= timedelta(0):
        return f"{place}.minDuration: must be a duration above zero, such as 15s, 10m or 1h30m"
    return ""


def _stages(stages: list[Stage]) -> str:
    weights = [stage.weight_ppm for stage in stages if stage.audience is None]
    if weights != sorted(set(weights)):
        return "spec.stages: weights of stages without audience must strictly increase, such as 1%, 10%, 50%, 100%"
    if stages[-1].audience is not None or stages[-1].weight_ppm != WHOLE_PPM:
        return "spec.stages: the last stage must have weight 100% and no audience"
    if sum(stage.audience is not None for stage in stages) > 1:
        return "spec.stages: only one stage may have an audience"
    return ""


def _analysis(analysis: Analysis) -> str:
    if analysis.interval < _MIN_INTERVAL:
        return "spec.analysis.interval: must be at least 100ms"
    if not 0 < analysis.false_rollback_rate <= WHOLE_PPM // 2:
        return "spec.analysis.falseRollbackRate: must be above 0% and up to 50%"
    names = [metric.name for metric in analysis.metrics]
    if len(names) != len(set(names)):
        return "spec.analysis.metrics: each metric may be named once"
    limits = [guardrail.name for guardrail in analysis.guardrails]
    if len(limits) != len(set(limits)):
        return "spec.analysis.guardrails: each guardrail may be named once"
    if not all(0 < guardrail.limit_ppm <= WHOLE_PPM // 2 for guardrail in analysis.guardrails):
        return "spec.analysis.guardrails: maxShare must be above 0% and up to 50%"
    return ""


def _kill_switches(spec: RolloutSpec) -> str:
    names = [switch.name for switch in spec.kill_switches]
    return "spec.killSwitches: each name may be given once" if len(names) != len(set(names)) else ""


def _advance_on(spec: RolloutSpec) -> str:
    if spec.analysis.advance_on is AdvanceOn.EVIDENCE and len(spec.stages) == 1:
        return (
            "spec.analysis.advanceOn: Evidence needs a stage in which stable serves beside the candidate: put one before "
            "100%, or take Time"
        )
    return ""


def _shadow(spec: RolloutSpec) -> str:
    if spec.shadow is None:
        return ""
    if any(metric.name == SHADOW for metric in spec.analysis.metrics):
        return f"spec.analysis.metrics: {SHADOW_IS_TAKEN}"
    return f"spec.shadow.{spec.shadow.problem}" if spec.shadow.problem else ""
