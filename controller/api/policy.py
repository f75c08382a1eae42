"""The ValidatingAdmissionPolicy of RolloutActions: the API server itself checks who asks, and whether they may.

Nothing of ours runs for it, so that it holds with every operator dead; the operator does nothing that was asked for
without it.
"""

from __future__ import annotations

from typing import Any

from controller.api import GROUP, VERSION

NAME = f"rolloutactions.{GROUP}"
"""Of the policy and of its binding."""

API_VERSION = "admissionregistration.k8s.io/v1"

_IS_THE_CALLER = "object.spec.requestedBy == request.userInfo.username"
_MAY = (
    f"authorizer.group('{GROUP}').resource('agentrollouts').namespace(request.namespace)"
    ".name(object.spec.rollout).check(object.spec.action.lowerAscii()).allowed()"
)

RULES: tuple[dict[str, str], ...] = (
    {
        "expression": _IS_THE_CALLER,
        "message": "spec.requestedBy must be the name under which the API server knows you: see kubectl auth whoami",
        "messageExpression": (
            "'spec.requestedBy is ' + object.spec.requestedBy + ', but the API server knows you as ' + "
            "request.userInfo.username + ': write that'"
        ),
        "reason": "Forbidden",
    },
    {
        "expression": _MAY,
        "message": "RBAC must grant the action in lower case as a verb on agentrollouts",
        "messageExpression": (
            "request.userInfo.username + ' may not ' + object.spec.action.lowerAscii() + ' AgentRollout ' + "
            "object.spec.rollout + ' in namespace ' + request.namespace + ': a Role must grant the verb ' + "
            f"object.spec.action.lowerAscii() + ' on agentrollouts.{GROUP}'"
        ),
        "reason": "Forbidden",
    },
)

POLICY: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": NAME},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": [GROUP],
                    "apiVersions": [VERSION],
                    "operations": ["CREATE"],
                    "resources": ["rolloutactions"],
                    "scope": "Namespaced",
                }
            ]
        },
        "validations": list(RULES),
    },
}
"""Of a stored action nobody can change the spec: the CRD's own rule sees to that."""

BINDING: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": NAME},
    "spec": {"policyName": NAME, "validationActions": ["Deny"]},
}
