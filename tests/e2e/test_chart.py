"""The chart as people install it: image, pods, Services and real traffic through the routers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api.reasons import Reason, State
from devkit.cluster import Cluster
from devkit.process import wait_until
from tests.e2e.chart_lab import RELEASE, ChartLab

PER_SECOND = 40


@pytest.fixture
def lab(cluster: Cluster, e2e_namespace: str, tmp_path: Path) -> Iterator[ChartLab]:
    """Nothing installed yet; what a test installed is gone afterwards."""
    cluster.kubectl("label", "namespace", e2e_namespace, "pod-security.kubernetes.io/enforce=restricted")
    lab = ChartLab(cluster, e2e_namespace, tmp_path)
    with lab.prometheus:
        yield lab
        lab.helm.run("uninstall", RELEASE, f"--namespace={e2e_namespace}", "--ignore-not-found")


def installed(lab: ChartLab) -> None:
    """The chart is installed, v1 is stable and users ask."""
    with lab.timed("helm install --wait"):
        # The CRDs of the cluster are there, and belong to nobody.
        lab.install("install", "--set=crds.enabled=false")
    lab.deploy("v1")
    with lab.timed("first version stable"):
        lab.want("v1")
        lab.until(lambda r: r.status.state is State.STABLE and r.status.programmed == 0)
    lab.send_users(PER_SECOND)
    wait_until(lambda: lab.met().get("v1 200", 0) > 0, timeout=30, what="answers of v1")


def test_a_good_version_reaches_everyone_and_a_bad_one_is_taken_back_through_pods_of_the_chart(
    lab: ChartLab,
) -> None:
    installed(lab)
    lab.deploy("v2")
    lab.deploy("v3", fails=0.5)
    first = lab.rollout().status.stable
    with lab.timed("v2 delivered"):
        lab.want("v2")
        second = lab.until(
            lambda r: r.status.state is State.STABLE and r.status.stable != first
        ).status.stable
    with lab.timed("v3 taken back"):
        lab.want("v3")
        ended = lab.until(lambda r: r.status.state is State.ROLLED_BACK and r.status.programmed == 0)
    assert ended.status.stable == second
    assert ended.status.last_rollback is not None
    assert ended.status.last_rollback.reason is Reason.ANALYSIS_FAILED
    assert lab.failures(but_of="v3") == {}
    assert {"v1 200", "v2 200", "v3 500"} <= lab.met().keys()


def test_routers_that_go_and_an_upgrade_in_the_middle_of_a_rollout_are_not_felt(lab: ChartLab) -> None:
    installed(lab)
    lab.deploy("v2")
    first = lab.rollout().status.stable
    lab.want("v2")
    lab.until(lambda r: r.status.programmed == 100_000)
    with lab.timed("a router pod deleted, its successor ready"):
        gone = lab.pods("router")[0]["metadata"]["name"]
        lab.kubectl("delete", "pod", gone, "--wait=true", "--timeout=60s")
        lab.kubectl("rollout", "status", f"deployment/{RELEASE}-router", "--timeout=60s")
        lab.scrape()
    with lab.timed("helm upgrade --wait"):
        lab.install("upgrade", "--set=crds.enabled=false", "--set=operator.logLevel=debug")
    with lab.timed("v2 delivered"):
        lab.until(lambda r: r.status.state is State.STABLE and r.status.stable != first)
    assert lab.failures() == {}


def test_while_the_kubelet_is_paused_a_rollout_goes_on(lab: ChartLab) -> None:
    pid = os.environ.get("E2E_KUBELET_PID")
    if not pid:
        pytest.skip("to pause the only node's kubelet set E2E_KUBELET_PID to its process ID")
    installed(lab)
    lab.deploy("v2")
    first = lab.rollout().status.stable
    met = lab.met()
    os.kill(int(pid), signal.SIGSTOP)
    try:
        with lab.timed("v2 delivered without a kubelet"):
            lab.want("v2")
            lab.until(lambda r: r.status.state is State.STABLE and r.status.stable != first)
    finally:
        os.kill(int(pid), signal.SIGCONT)
    # Only a kubelet can show logs.
    wait_until(lambda: sum(lab.met().values()) > sum(met.values()), timeout=60, what="logs of users")
    assert lab.failures() == {}


def test_uninstalling_leaves_the_rollouts_and_installing_again_takes_them_up(lab: ChartLab) -> None:
    installed(lab)
    first = lab.rollout().status.stable
    lab.helm.run("uninstall", RELEASE, f"--namespace={lab.namespace}", "--wait")
    assert lab.rollout().status.stable == first
    assert lab.pods("operator") == []
    with lab.timed("installed again"):
        lab.install("install", "--set=crds.enabled=false")
    lab.deploy("v2")
    lab.want("v2")
    lab.until(lambda r: r.status.state is State.STABLE and r.status.stable != first)
