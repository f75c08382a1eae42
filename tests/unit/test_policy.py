"""An action counts only if the API server has checked who asked for it."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.api.policy import BINDING, NAME, POLICY
from controller.core.policy import ACTIVATION, policy_problem

MADE = datetime(2026, 1, 1, tzinfo=UTC)
LATER = MADE + ACTIVATION


def stored(wanted: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """As the API server has it, with defaults of its own."""
    found = copy.deepcopy(wanted)
    found["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "1"}
    found["spec"] |= {"matchPolicy": "Equivalent"} | spec
    return found


def test_with_policy_and_binding_in_force_there_is_no_problem() -> None:
    assert policy_problem(stored(POLICY), stored(BINDING), LATER) == ""


@pytest.mark.parametrize(("policy", "binding"), [(None, stored(BINDING)), (stored(POLICY), None)])
def test_without_one_of_them_the_way_out_is_told(
    policy: dict[str, Any] | None, binding: dict[str, Any] | None
) -> None:
    said = policy_problem(policy, binding, LATER)
    assert said.startswith("PolicyMissing: ValidatingAdmissionPolicy")
    assert said.endswith(f"{NAME} is not there: kubectl apply -f crds/policy.yaml, and ask again")


@pytest.mark.parametrize(
    "change",
    [
        {"failurePolicy": "Ignore"},
        {"validations": POLICY["spec"]["validations"][:1]},
        {"validations": [{"expression": "true"}, {"expression": "true"}]},
        {"validations": "none"},
        {"matchConstraints": {"resourceRules": []}},
        {"matchConditions": [{"name": "never", "expression": "false"}]},
        {"paramKind": {"kind": "ConfigMap"}},
        {
            "matchConstraints": POLICY["spec"]["matchConstraints"]
            | {"objectSelector": {"matchLabels": {"a": "b"}}}
        },
        {"matchConstraints": None},
    ],
)
def test_a_policy_that_checks_less_is_none(change: dict[str, Any]) -> None:
    said = policy_problem(stored(POLICY, **change), stored(BINDING), LATER)
    assert (
        "ValidatingAdmissionPolicy rolloutactions.agentrollout.dev is not what this operator came with"
        in said
    )


@pytest.mark.parametrize(
    "change",
    [
        {"validationActions": ["Warn"]},
        {"policyName": "other"},
        {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}},
        {"matchResources": {"resourceRules": [{"apiGroups": [""], "resources": ["pods"]}]}},
    ],
)
def test_a_binding_that_denies_less_is_none(change: dict[str, Any]) -> None:
    said = policy_problem(stored(POLICY), stored(BINDING, **change), LATER)
    assert "ValidatingAdmissionPolicyBinding" in said
    assert "is not what this operator came with" in said


def test_a_policy_for_actions_of_one_name_is_none() -> None:
    rules = [{**POLICY["spec"]["matchConstraints"]["resourceRules"][0], "resourceNames": ["mine"]}]
    said = policy_problem(stored(POLICY, matchConstraints={"resourceRules": rules}), stored(BINDING), LATER)
    assert "is not what this operator came with" in said


def test_a_policy_that_refuses_in_other_words_is_one() -> None:
    rules = [rule | {"message": "no"} for rule in POLICY["spec"]["validations"]]
    assert policy_problem(stored(POLICY, validations=rules), stored(BINDING), LATER) == ""


def test_selectors_that_leave_nothing_out_do_no_harm() -> None:
    resources = {"namespaceSelector": {}, "objectSelector": {}, "matchPolicy": "Equivalent"}
    assert policy_problem(stored(POLICY), stored(BINDING, matchResources=resources), LATER) == ""


def test_an_action_that_is_older_than_the_policy_was_not_checked() -> None:
    said = policy_problem(stored(POLICY), stored(BINDING), LATER - timedelta(seconds=1))
    assert "the action is older than ValidatingAdmissionPolicy" in said
