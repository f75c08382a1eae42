from typing import Any

import pytest

from controller.api.rollout import RolloutSpec
from controller.core.wellformed import broken_rule

AUDIENCE = {"audience": {"header": "x-user-group", "values": ["internal"]}}
LAST = {"weight": "100%"}


def spec(**changes: Any) -> RolloutSpec:
    agent = {"code": {"url": "http://v1"}}
    traffic = {"envoy": {"hosts": ["agent.example"]}}
    return RolloutSpec.model_validate({"agent": agent, "traffic": traffic, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stages": [AUDIENCE, {"weight": "1%"}, LAST]},
        {"stages": [{"weight": "50%"}, {**AUDIENCE, "weight": "5%"}, LAST]},
        {"agent": {"code": {"service": {"name": "agent", "port": 80}}}},
        {"analysis": {"interval": "100ms", "falseRollbackRate": "50%"}},
        {"shadow": {}},
        {"shadow": {"minDuration": "1d", "maxDuration": "2d", "noise": "0%"}},
    ],
)
def test_a_spec_that_the_api_server_takes_breaks_no_rule(changes: dict[str, Any]) -> None:
    assert broken_rule(spec(**changes)) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"agent": {"code": {}}}, "spec.agent.code: exactly one of url, service and image must be set"),
        (
            {"agent": {"code": {"url": "http://v1", "service": {"name": "a", "port": 80}}}},
            "spec.agent.code: exactly one",
        ),
        ({"agent": {"code": {"image": "v1"}}}, "spec.agent.code.image: image is not supported"),
        (
            {"stages": [LAST], "analysis": {"advanceOn": "Evidence"}},
            "spec.analysis.advanceOn: Evidence needs a stage in which stable serves",
        ),
        (
            {"analysis": {"guardrails": [{"name": "latency"}] * 2}},
            "spec.analysis.guardrails: each guardrail may be named once",
        ),
        (
            {"analysis": {"guardrails": [{"name": "toolErrors", "maxShare": "60%"}]}},
            "spec.analysis.guardrails: maxShare must be above 0% and up to 50%",
        ),
        ({"shadow": {"fraction": "60%"}}, "spec.shadow.fraction: must be above 0% and up to 50%"),
        (
            {"shadow": {"minDuration": "3d"}},
            "spec.shadow.minDuration: minDuration (default 10m) must not be longer than maxDuration",
        ),
        ({"shadow": {"timeout": "11m"}}, "spec.shadow.timeout: must be from 1s to 10m"),
        (
            {"shadow": {"removeHeaders": ["host"]}},
            "spec.shadow.removeHeaders: mirrored requests need host",
        ),
        (
            {
                "shadow": {},
                "analysis": {
                    "metrics": [{"name": "shadow", "total": {"metric": "a"}, "bad": {"metric": "b"}}]
                },
            },
            "spec.analysis.metrics: shadow is the name of what spec.shadow compares",
        ),
        ({"stages": [{}, LAST]}, "spec.stages[0]: a stage without audience needs a weight"),
        ({"stages": [{"weight": "0%"}, LAST]}, "spec.stages[0].weight: must be above 0%"),
        (
            {"stages": [{"weight": "1%", "minDuration": "0s"}, LAST]},
            "spec.stages[0].minDuration: must be a duration above zero",
        ),
        (
            {"stages": [{"weight": "50%"}, {"weight": "10%"}, LAST]},
            "spec.stages: weights of stages without audience must",
        ),
        (
            {"stages": [{"weight": "50%"}, {"weight": "50%"}, LAST]},
            "spec.stages: weights of stages without audience must",
        ),
        ({"stages": [{"weight": "50%"}]}, "spec.stages: the last stage must have weight 100%"),
        ({"stages": [LAST, AUDIENCE]}, "spec.stages: the last stage must have weight 100% and no audience"),
        ({"stages": [AUDIENCE, AUDIENCE, LAST]}, "spec.stages: only one stage may have an audience"),
        ({"analysis": {"interval": "99ms"}}, "spec.analysis.interval: must be at least 100ms"),
        ({"analysis": {"falseRollbackRate": "0%"}}, "spec.analysis.falseRollbackRate: must be above 0%"),
        ({"analysis": {"falseRollbackRate": "51%"}}, "spec.analysis.falseRollbackRate: must be above 0%"),
        (
            {"analysis": {"metrics": [{"name": "errors"}, {"name": "errors"}]}},
            "spec.analysis.metrics: each metric may be named once",
        ),
    ],
)
def test_a_broken_rule_is_told_with_its_field(changes: dict[str, Any], sentence: str) -> None:
    assert broken_rule(spec(**changes)).startswith(sentence)
