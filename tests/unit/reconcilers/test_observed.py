"""What informers keep of our kinds: little, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.agent import FrozenAgent
from controller.api.delivery import Analysis, default_stages
from controller.api.reasons import Reason
from controller.core.artifact import artifact_id
from controller.reconcilers.observed import observe_revision, observe_rollout
from controller.runtime.store import InvalidObjectError
from tests.crds.refusals import REFUSALS, Refusal


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


def test_a_revision_is_known_with_its_model() -> None:
    """A judge may be neither of those whose answers it compares."""
    agent = {"code": {"url": "http://v1"}, "model": {"provider": "openai", "name": "gpt-x"}}
    for parts, model in ((agent, "openai/gpt-x"), ({"code": agent["code"]}, "")):
        artifact = artifact_id(FrozenAgent.model_validate(parts))
        spec = {"rollout": "agent", "artifactID": artifact, "agent": parts}
        metadata = {"name": "agent-1", "namespace": "shop"}
        assert observe_revision({"metadata": metadata, "spec": spec}).revision.model == model


def test_the_agent_is_kept_until_status_shows_that_its_revision_keeps_it() -> None:
    new = observe_rollout(_raw("agent"))
    assert new.agent is not None
    assert new.agent.prompts == {"system": "Help."}
    assert new.rollout.spec.agent.prompts == {}
    ref = {"revision": "agent-1", "artifactID": new.artifact_id}
    for status in ({"stable": ref}, {"candidate": ref}, {"rolledBack": [new.artifact_id]}):
        assert observe_rollout({**_raw("agent"), "status": status}).agent is None
    assert observe_rollout(_raw("agent", stages=[])).agent is None, "nothing is made of a refused spec"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"stages": [{"weight": "10%"}, {"weight": "a lot"}]}, "spec.stages[1].weight: 'a lot' is not"),
        ({"stages": []}, "spec.stages: List should have at least 1 item"),
        ({"analysis": {"interval": "soon"}}, "spec.analysis.interval: 'soon' is not a duration"),
        ({"agent": {"code": "v1"}}, "spec.agent.code: Input should be"),
        (
            {"stages": [], "analysis": {"interval": "soon"}},
            "spec.analysis.interval: 'soon' is not a duration",
        ),
    ],
)
def test_what_is_not_understood_is_a_problem_with_its_place(spec: dict[str, Any], problem: str) -> None:
    found = observe_rollout(_raw("agent", **spec)).problem
    assert found is not None
    assert found.reason is Reason.INVALID
    assert problem in found.message


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"spec": {"traffic": {"envoy": {"hosts": []}}}}, "spec.traffic.envoy.hosts: "),
        ({"spec": "v1"}, "spec: "),
        ({"metadata": {"name": 1}}, "metadata.name: "),
    ],
)
def test_what_cannot_be_read_at_all_is_kept_out_with_its_place(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        observe_rollout({**_raw("agent"), **change})
    assert problem in str(caught.value)


def test_a_status_of_a_newer_operator_is_read_as_far_as_decisions_need_it() -> None:
    raw = {**_raw("agent"), "status": {"weight": "10%", "state": "Dreaming"}}
    observed = observe_rollout(raw)
    assert observed.rollout.status.weight == 100_000
    assert observed.problem is None


HARMLESS = frozenset(
    {
        # What the models trim, sort out or never use, and what is only wrong as a name.
        "weight 01%",
        "weight as a number",
        "minDuration 1m1h",
        "host twice",
        "unknown field",
        "unknown field inside",
        "service with a namespace",
        "name of 53 characters",
        "name with a dot",
        "url too long",
        "url with a path",
        "url with a query",
        "url with user info",
        "url with port 0",
        "empty prompt",
        "blank prompt",
        "prompts too large together",
        "prompts too large in bytes",
        "prompt without a name",
        "prompt without name from a ConfigMap",
        "prompt from another namespace",
        "dependency with a long name",
        "affinity header of the router",
        "audience header of the router",
        "shadow without a header twice",
        "shadow with an unknown field",
        "service by its domain",
        "service of another namespace",
        "service name in upper case",
        "service empty name",
        "service name of 64 characters",
    }
)
"""Refused when applied, yet no harm if stored before: they lead nowhere, or no request gets there."""


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_what_the_api_server_refuses_is_told_when_it_was_stored_before(refusal: Refusal) -> None:
    manifest = refusal.manifest()
    metadata = {**_raw("agent")["metadata"], **manifest["metadata"]}
    try:
        problem = observe_rollout({**manifest, "metadata": metadata}).problem
        message = problem.message if problem else ""
    except InvalidObjectError as error:
        message = str(error)
    assert (message == "") == (refusal.title in HARMLESS), message
    if message:
        assert message.startswith(refusal.field.partition("[")[0].partition(":")[0]), message
