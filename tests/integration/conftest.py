"""What several tests of whole deliveries share."""

from collections.abc import Iterator

import pytest

from devkit.controlplane import ControlPlane
from tests.bench.world import control_plane


@pytest.fixture
def own_control_plane() -> Iterator[ControlPlane]:
    """A Kubernetes API with our CRDs and a namespace for rollouts that can be killed without harm to other tests."""
    with control_plane() as started:
        yield started
