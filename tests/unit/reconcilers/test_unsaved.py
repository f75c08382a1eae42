"""Kept evidence belongs to one version of one object."""

from __future__ import annotations

from typing import Any

import pytest

from controller.reconcilers.observed import ObservedRollout
from controller.reconcilers.unsaved import UnsavedEvidence
from tests.virtual import rollout_of


def observed(**metadata: Any) -> ObservedRollout:
    rollout = rollout_of()
    metadata = {"uid": "1", "resource_version": "7", **metadata}
    changed = rollout.metadata.model_copy(update=metadata)
    return ObservedRollout(rollout.model_copy(update={"metadata": changed}), "sha256:1", None, None)


STATUS = rollout_of().status.model_copy(update={"observed_generation": 5})


@pytest.fixture
def unsaved() -> UnsavedEvidence:
    unsaved = UnsavedEvidence()
    unsaved.keep(observed(), STATUS)
    return unsaved


def test_it_goes_on_while_the_object_is_the_same(unsaved: UnsavedEvidence) -> None:
    assert unsaved.latest(observed()).rollout.status == STATUS
    assert unsaved.latest(observed()).rollout.status == STATUS


@pytest.mark.parametrize("change", [{"resource_version": "8"}, {"uid": "2"}])
def test_once_the_object_is_another_it_is_void_for_good(
    unsaved: UnsavedEvidence, change: dict[str, str]
) -> None:
    assert unsaved.latest(observed(**change)) == observed(**change)
    assert unsaved.latest(observed()) == observed()


def test_others_have_none_and_it_can_be_given_up(unsaved: UnsavedEvidence) -> None:
    assert unsaved.latest(observed(name="other")) == observed(name="other")
    unsaved.forget(observed().rollout.metadata.key)
    assert unsaved.latest(observed()) == observed()
    unsaved.keep(observed(), STATUS)
    unsaved.clear()
    assert unsaved.latest(observed()) == observed()
