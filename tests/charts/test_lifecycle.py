"""What Helm does to a real API server: install, upgrade, rollback, uninstall, and what is left then.

No kubelet is there: pods are admitted, not run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devkit.controlplane import ControlPlane
from devkit.credentials import User
from devkit.errors import DevkitError
from devkit.helm import Helm
from tests.charts.chart import CHART, SCENARIOS, pod_templates

NAMESPACE, RELEASE = "delivery", "agentrollout"
SMALL = CHART / "ci" / "small-values.yaml"
DEFAULT = CHART / "ci" / "default-values.yaml"
STRICT = CHART / "ci" / "strict-values.yaml"
EXAMPLE = CHART.parents[1] / "examples" / "minimal.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """A Kubernetes API without our CRDs, and a namespace under the restricted pod security level."""
    with ControlPlane(controllers=True, users=[User("viewer"), User("editor")]) as control_plane:
        control_plane.kubectl("create", "namespace", NAMESPACE)
        control_plane.kubectl(
            "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted"
        )
        yield control_plane


@pytest.fixture
def helm(cluster: ControlPlane) -> Iterator[Helm]:
    """Helm for that API server; what a test installed is gone afterwards, but for what the chart keeps."""
    helm = Helm(cluster.kubeconfig)
    yield helm
    helm.run("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--ignore-not-found")


def install(helm: Helm, verb: str = "install", values: Path = STRICT, *settings: str) -> None:
    helm.run(verb, RELEASE, CHART, f"--namespace={NAMESPACE}", f"--values={values}", *settings)


def replicas(cluster: ControlPlane) -> str:
    return cluster.kubectl(
        "get",
        "deployment",
        f"{RELEASE}-operator",
        f"--namespace={NAMESPACE}",
        "--output=jsonpath={.spec.replicas}",
    )


def rollouts(cluster: ControlPlane) -> str:
    return cluster.kubectl("get", "agentrollouts", f"--namespace={NAMESPACE}", "--output=name")


def test_a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_rollouts_outlive_it(
    cluster: ControlPlane, helm: Helm
) -> None:
    install(helm)
    assert replicas(cluster) == "3"
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    cluster.kubectl("apply", f"--namespace={NAMESPACE}", f"--filename={EXAMPLE}")

    install(helm, "upgrade", STRICT, "--set=operator.replicas=5", "--set=shadow.enabled=true")
    assert replicas(cluster) == "5"
    assert "shadow" in cluster.kubectl("get", "deployments", f"--namespace={NAMESPACE}", "--output=name")

    helm.run("rollback", RELEASE, "1", f"--namespace={NAMESPACE}")
    assert replicas(cluster) == "3"
    assert "shadow" not in cluster.kubectl("get", "deployments", f"--namespace={NAMESPACE}", "--output=name")
    kept = rollouts(cluster)

    helm.run("uninstall", RELEASE, f"--namespace={NAMESPACE}")
    left = cluster.kubectl("get", "deployments,services,roles", f"--namespace={NAMESPACE}", "--output=name")
    assert left == ""
    assert "agentrollout-operator" not in cluster.kubectl("get", "clusterroles", "--output=name")
    assert rollouts(cluster) == kept == "agentrollout.agentrollout.dev/minimal\n"

    install(helm)  # takes the CRDs that were left as its own again
    assert rollouts(cluster) == kept


def test_a_changed_crd_reaches_the_cluster_with_an_upgrade(
    cluster: ControlPlane, helm: Helm, tmp_path: Path
) -> None:
    install(helm)
    chart = tmp_path / "agentrollout"
    shutil.copytree(CHART, chart)
    for path in (chart / "files" / "crds").glob("*agentrollouts.yaml"):
        crd = yaml.safe_load(path.read_text())
        crd["spec"]["versions"][0]["additionalPrinterColumns"].append(
            {"name": "Next", "type": "string", "jsonPath": ".spec.next"}
        )
        path.write_text(yaml.safe_dump(crd))
    helm.run("upgrade", RELEASE, chart, f"--namespace={NAMESPACE}", f"--values={STRICT}")
    assert ".spec.next" in cluster.kubectl("get", "crd", "agentrollouts.agentrollout.dev", "--output=json")


def test_an_upgrade_keeps_the_certificates_that_an_install_made(cluster: ControlPlane, helm: Helm) -> None:
    def certificates() -> str:
        return cluster.kubectl(
            "get", "secrets", f"--namespace={NAMESPACE}", "--output=jsonpath={.items[*].data.tls\\.crt}"
        )

    install(helm, "install", DEFAULT)
    before = certificates()
    install(helm, "upgrade", DEFAULT, "--set=operator.replicas=3")
    assert len(before.split()) == 2
    assert certificates() == before


def test_every_pod_of_every_scenario_is_admitted_as_restricted(cluster: ControlPlane) -> None:
    for number, values in enumerate(SCENARIOS):
        for kind, template in pod_templates(values):
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"pod-{number}", "labels": template["metadata"]["labels"]},
                # A Pod of its own may end by itself; those of a Deployment may not.
                "spec": template["spec"],
            }
            arguments = ("create", f"--namespace={NAMESPACE}", "--dry-run=server", "--filename=-")
            assert "created" in cluster.kubectl(*arguments, input=json.dumps(pod)), kind


def test_the_restricted_level_would_have_refused_root(cluster: ControlPlane) -> None:
    ((_, template), *_) = pod_templates(SMALL)
    spec = json.loads(
        json.dumps(template["spec"])
        .replace("65532", "0")
        .replace('"runAsNonRoot": true', '"runAsNonRoot": false')
    )
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": spec}
    with pytest.raises(DevkitError, match="violates PodSecurity"):
        cluster.kubectl(
            "create", f"--namespace={NAMESPACE}", "--dry-run=server", "--filename=-", input=json.dumps(pod)
        )


def test_people_get_what_view_and_edit_say(cluster: ControlPlane, helm: Helm) -> None:
    install(helm)
    # No controller aggregates here: the parts are bound as they are.
    for user, roles in (("viewer", ("view",)), ("editor", ("view", "edit"))):
        for role in roles:
            cluster.kubectl(
                *("create", "rolebinding", f"{user}-{role}", f"--namespace={NAMESPACE}"),
                *(f"--clusterrole={RELEASE}-{role}", f"--user={user}"),
            )

    def may(user: str, verb: str, resource: str, *more: str) -> bool:
        access = f"--kubeconfig={cluster.user_kubeconfig(user)}"
        try:
            cluster.kubectl(access, "auth", "can-i", verb, resource, f"--namespace={NAMESPACE}", *more)
        except DevkitError:
            return False
        return True

    assert may("viewer", "list", "agentrollouts.agentrollout.dev")
    assert may("viewer", "get", "agentrevisions.agentrollout.dev")
    assert not may("viewer", "create", "agentrollouts.agentrollout.dev")
    assert may("editor", "create", "agentrollouts.agentrollout.dev")
    assert may("editor", "delete", "agentrollouts.agentrollout.dev")
    assert may("editor", "create", "rolloutactions.agentrollout.dev")
    assert may("editor", "abort", "agentrollouts.agentrollout.dev")
    assert not may("editor", "promote", "agentrollouts.agentrollout.dev")
    assert not may("editor", "update", "agentrollouts.agentrollout.dev", "--subresource=status")
    assert not may("editor", "create", "agentrevisions.agentrollout.dev")
