"""Whether the API server checked who asked: the policy of RolloutActions, as it is stored, beside what it has to say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from controller.api.policy import BINDING, POLICY
from controller.api.quantities import parse_time
from controller.api.reasons import Reason

ACTIVATION = timedelta(seconds=5)
"""So long after it was created may a policy take to be in force in every API server."""

_CHECKS = {
    **POLICY["spec"],
    "validations": [{"expression": rule["expression"]} for rule in POLICY["spec"]["validations"]],
}
"""What the policy has to check; in which words it refuses may differ between versions."""

_WAY_OUT = "kubectl apply -f crds/policy.yaml, and ask again"


def policy_problem(
    policy: Mapping[str, Any] | None, binding: Mapping[str, Any] | None, created: datetime
) -> str:
    """Why an action may have been stored without being checked; empty if it was checked.

    Args:
        policy: The ValidatingAdmissionPolicy as it is stored; None if it is not there.
        binding: Its binding.
        created: When the action was created.
    """
    for wanted, spec, found in ((POLICY, _CHECKS, policy), (BINDING, BINDING["spec"], binding)):
        name = f"{wanted['kind']} {wanted['metadata']['name']}"
        if found is None:
            return f"{Reason.POLICY_MISSING}: {name} is not there: {_WAY_OUT}"
        if not _says(spec, found.get("spec")) or _is_limited(found["spec"]):
            return f"{Reason.POLICY_MISSING}: {name} is not what this operator came with: {_WAY_OUT}"
        since = parse_time(found["metadata"]["creationTimestamp"]) + ACTIVATION
        if created < since:
            return (
                f"{Reason.POLICY_MISSING}: the action is older than {name}, which did not check it: ask again"
            )
    return ""


def _says(wanted: Any, found: Any) -> bool:
    """Whether what is stored has everything that is wanted; the API server adds defaults of its own."""
    if isinstance(wanted, dict):
        return isinstance(found, Mapping) and all(_says(part, found.get(key)) for key, part in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_says, wanted, found))
    return bool(wanted == found)


def _is_limited(spec: Mapping[str, Any]) -> bool:
    """Whether the policy, or its binding, leaves anything out."""
    constraints, resources = spec.get("matchConstraints") or {}, spec.get("matchResources") or {}
    left_out = ("excludeResourceRules", "namespaceSelector", "objectSelector")
    return (
        bool(spec.get("matchConditions") or spec.get("paramKind") or resources.get("resourceRules"))
        or any(rule.get("resourceNames") for rule in constraints.get("resourceRules") or ())
        or any(each.get(key) for each in (constraints, resources) for key in left_out)
    )
