"""The artifact ID of what the API server stores, however it was written down."""

from __future__ import annotations

import json

import pytest

from controller.reconcilers.observed import observe_rollout
from devkit.controlplane import ControlPlane

PLAIN = """
apiVersion: agentrollout.dev/v1alpha1
kind: AgentRollout
metadata:
  name: plain
spec:
  agent:
    code:
      url: http://agent-v1.example:8080
    prompts:
      system: |
        You help.
        Be brief – and überaus kind. 🙂
      task: Answer the question.
    model:
      provider: openai
      name: gpt-x
      parameters:
        temperature: 0.2
        top_p: 1
        max_tokens: 1000
        stop: [END, STOP]
        response: {type: json, strict: true}
    dependencies:
      tools/refund: 3.2.0
      tools/orders: 1.4.0
  traffic:
    envoy:
      hosts: [plain.example]
"""

OTHERWISE = r"""
spec:
  traffic: {envoy: {hosts: [otherwise.example]}}
  stages: [{weight: 5%}, {weight: 100%}]
  agent: {"dependencies": {tools/orders: '1.4.0', "tools/refund": "3.2.0"}, model: {
      parameters: {"response": {strict: true, 'type': "json"}, stop: ["END", 'STOP'], max_tokens: 1e3, top_p: 1.0,
                   temperature: 0.20},
      name: "gpt-x", provider: 'openai'},
    prompts: {task: "Answer the\
      \ question.", "system": "You help.\nBe brief \u2013 and \xFCberaus kind. \U0001F642\n"},
    code: {"url": 'http://agent-v1.example:8080'}}
metadata: {labels: {team: shop}, name: otherwise}
kind: "AgentRollout"
apiVersion: 'agentrollout.dev/v1alpha1'
"""


def stored_id(control_plane: ControlPlane, namespace: str, manifest: str, *options: str) -> str:
    printed = control_plane.kubectl(
        "apply", *options, "-n", namespace, "-o", "json", "-f", "-", input=manifest
    )
    observed = observe_rollout(json.loads(printed))
    assert observed.problem is None
    return observed.artifact_id


@pytest.mark.parametrize("options", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_order_and_style_do_not_matter(
    options: tuple[str, ...], control_plane: ControlPlane, namespace: str
) -> None:
    plain = stored_id(control_plane, namespace, PLAIN, *options)
    assert plain.startswith("sha256:")
    assert stored_id(control_plane, namespace, OTHERWISE, *options) == plain


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.2\n", "0.21\n"),
        ("Be brief", "Be  brief"),
        ("3.2.0", "3.2.1"),
        ("agent-v1", "agent-v2"),
        ("gpt-x", "gpt-y"),
    ],
    ids=["parameter", "prompt", "dependency", "code", "model"],
)
def test_what_changes_behaviour_changes_it(
    old: str, new: str, control_plane: ControlPlane, namespace: str
) -> None:
    before = stored_id(control_plane, namespace, PLAIN)
    assert old in PLAIN
    assert stored_id(control_plane, namespace, PLAIN.replace(old, new)) != before


def test_everything_else_does_not_change_it(control_plane: ControlPlane, namespace: str) -> None:
    before = stored_id(control_plane, namespace, PLAIN)
    other = PLAIN + "  delivery: Header\n  revisionHistoryLimit: 3\n  analysis: {interval: 1m}\n"
    assert stored_id(control_plane, namespace, other) == before


def test_a_number_beyond_json_is_named_with_the_way_out(control_plane: ControlPlane, namespace: str) -> None:
    manifest = PLAIN.replace("max_tokens: 1000", f"seed: {2**60}")
    printed = control_plane.kubectl("apply", "-n", namespace, "-o", "json", "-f", "-", input=manifest)
    problem = observe_rollout(json.loads(printed)).problem
    assert problem is not None
    assert problem.message.startswith("spec.agent cannot be hashed: ")
    assert problem.message.endswith("; write large numbers as text")
