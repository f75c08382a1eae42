"""A cluster with real pods, named by the environment."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from devkit.cluster import Cluster, ExistingCluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster of E2E_KUBECONFIG, with our CRDs."""
    kubeconfig = os.environ.get("E2E_KUBECONFIG")
    if not kubeconfig:
        pytest.skip("real pods need a real cluster: set E2E_KUBECONFIG to the kubeconfig of one")
    cluster = ExistingCluster(Path(kubeconfig))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={ROOT / 'crds'}")
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    return cluster


@pytest.fixture
def e2e_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace for one test; its deletion goes on after the test."""
    name = f"e2e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
