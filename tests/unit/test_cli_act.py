"""Which artifact an action is about when a person names none."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.action import ActionName
from controller.api.agent import Agent
from controller.cli_act import bound_to
from controller.core.artifact import artifact_id, spec_hash
from tests.crds.refusals import changed, rollout
from tests.crds.status import CANDIDATE, progressing

Raw = dict[str, Any]


def stored(manifest: Raw | None = None, **status: Any) -> Raw:
    return (manifest or rollout()) | {"status": progressing() | status}


def wanted(manifest: Raw) -> str:
    return artifact_id(Agent.model_validate(manifest["spec"]["agent"]))


@pytest.mark.parametrize("action", [each for each in ActionName if each is not ActionName.RETRY])
def test_an_action_is_about_the_candidate(action: ActionName) -> None:
    assert bound_to(stored(), action) == CANDIDATE
    assert not bound_to(stored(candidate=None), action)
    assert not bound_to(rollout(), action)


def test_a_retry_is_about_what_the_spec_wants_if_anything_was_taken_back() -> None:
    assert bound_to(stored(), ActionName.RETRY) == wanted(rollout())
    assert not bound_to(stored(lastRollback=None), ActionName.RETRY)
    assert not bound_to(rollout(), ActionName.RETRY)


def test_a_spec_with_references_wants_what_they_have_led_to() -> None:
    source = {"task": {"configMapKeyRef": {"name": "prompts", "key": "v1"}}}
    manifest = changed("spec.agent.promptsFrom", source)
    known = {
        "specHash": spec_hash(Agent.model_validate(manifest["spec"]["agent"])),
        "artifactID": "sha256:read",
    }
    read = stored(manifest, resolved=[{"specHash": "another", "artifactID": "sha256:old"}, known])
    assert bound_to(read, ActionName.RETRY) == "sha256:read"
    unread = stored(manifest, resolved=[])
    assert bound_to(unread, ActionName.RETRY) == progressing()["lastRollback"]["artifactID"]
