"""What informers keep of our kinds: little, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from controller.api.delivery import Analysis, default_stages
from controller.reconcilers.observed import observe_rollout


def _raw(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "agent": {"code": {"url": "http://agents.internal"}, "prompts": {"system": "Help."}},
            "traffic": {"envoy": {"hosts": [f"{name}.example"]}},
            **spec,
        },
    }


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"stages": [{"weight": "10%"}, {"weight": "100%"}], "analysis": {"interval": "30s"}},
    ],
)
def test_rollouts_that_are_delivered_alike_share_how(spec: dict[str, Any]) -> None:
    one, other = (
        observe_rollout(_raw("one", **spec)).rollout.spec,
        observe_rollout(_raw("other", **spec)).rollout.spec,
    )
    assert one.analysis is other.analysis
    assert all(mine is theirs for mine, theirs in zip(one.stages, other.stages, strict=True))


def test_what_is_left_out_has_its_defaults() -> None:
    spec = observe_rollout(_raw("agent")).rollout.spec
    assert (spec.stages, spec.analysis) == (default_stages(), Analysis())


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"stages": [{"weight": "10%"}, {"weight": "a lot"}]}, "spec.stages.1.weight"),
        ({"stages": []}, "spec.stages"),
        ({"analysis": {"interval": "soon"}}, "spec.analysis.interval"),
    ],
)
def test_what_is_not_understood_is_named_with_its_place(spec: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        observe_rollout(_raw("agent", **spec))
    assert {".".join(map(str, error["loc"])) for error in caught.value.errors()} == {place}
