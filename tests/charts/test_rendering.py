"""What the scenarios render to: valid for every supported Kubernetes, connected, locked down, and what the program takes."""

from __future__ import annotations

import base64
import copy
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
from cryptography import x509

from controller.cli import app
from tests.charts.chart import CHART, SCENARIOS, Raw, containers, objects, one, pod_templates

VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
DOCKERFILE = CHART.parents[1] / "Dockerfile"
STRICT = CHART / "ci" / "strict-values.yaml"
DEFAULT = CHART / "ci" / "default-values.yaml"
KILL_SWITCHES = CHART / "ci" / "kill-switches-values.yaml"

scenarios = pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.stem)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_of_every_scenario_is_strictly_valid(version: str) -> None:
    different = {
        json.dumps(found, sort_keys=True)
        for values in SCENARIOS
        for found in objects(values)
        if found["apiVersion"] != "monitoring.coreos.com/v1"  # not Kubernetes' own
    }
    assert len(different) > 40
    for text in sorted(different):
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def test_strict_validity_finds_a_misspelt_field() -> None:
    wrong = copy.deepcopy(one(DEFAULT, "Deployment", "-operator"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@scenarios
def test_no_two_objects_have_one_name(values: Path) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects(values)]
    assert len(names) == len(set(names))


@scenarios
def test_whatever_selects_pods_selects_some(values: Path) -> None:
    labels = [
        template["metadata"]["labels"] for name, template in pod_templates(values) if name[:4] != "Pod/"
    ]
    for found in objects(values):
        spec = found.get("spec", {})
        selector = {
            "Service": spec.get("selector"),
            "PodDisruptionBudget": (spec.get("selector") or {}).get("matchLabels"),
            "Deployment": (spec.get("selector") or {}).get("matchLabels"),
            "NetworkPolicy": (spec.get("podSelector") or {}).get("matchLabels"),
        }.get(found["kind"])
        if selector is not None:
            chosen = [each for each in labels if selector.items() <= each.items()]
            assert len(chosen) == 1, f"{found['kind']} {found['metadata']['name']}"


@scenarios
def test_every_port_that_is_named_is_a_containers(values: Path) -> None:
    ports = {
        tuple(sorted(template["metadata"]["labels"].items())): {
            port["name"] for container in containers(template) for port in container.get("ports", ())
        }
        for _, template in pod_templates(values)
    }
    for found in objects(values):
        if found["kind"] == "Service":
            selector = found["spec"]["selector"].items()
            (named,) = (names for labels, names in ports.items() if selector <= dict(labels).items())
            assert {port["targetPort"] for port in found["spec"]["ports"]} <= named


@scenarios
def test_every_volume_is_mounted_and_every_mount_has_its_volume(values: Path) -> None:
    for name, template in pod_templates(values):
        mounted = {mount["name"] for each in containers(template) for mount in each.get("volumeMounts", ())}
        assert {volume["name"] for volume in template["spec"].get("volumes", ())} == mounted, name


@scenarios
def test_containers_write_nowhere_but_where_they_are_told_and_name_their_needs(values: Path) -> None:
    for name, template in pod_templates(values):
        assert template["spec"]["securityContext"]["runAsUser"] == 65532
        for container in containers(template):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name


@scenarios
def test_only_the_operator_has_a_token_of_kubernetes(values: Path) -> None:
    having = {
        template["spec"].get("serviceAccountName")
        for _, template in pod_templates(values)
        if template["spec"]["automountServiceAccountToken"]
    }
    assert having == {"rel-agentrollout-operator"}


@scenarios
def test_the_arguments_are_what_the_program_takes(values: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    here = {
        "/etc/agentrollout/hmac/key": str(key),
        "/etc/agentrollout/flagd/ca.crt": str(key),
        "$(POD_NAME)": "operator-0",
        "/etc/envoy": str(tmp_path),
    }
    calls = list(_calls(values))
    assert len(calls) >= 1
    for words in calls:
        command: Any = typer.main.get_command(app)
        arguments = words
        while hasattr(command, "commands"):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        given = [argument for argument in arguments if "http-config-file" not in argument]
        for old, new in here.items():
            given = [argument.replace(old, new) for argument in given]
        command.make_context(command.name or "", given).close()


def test_the_values_reach_every_option_of_the_operator_but_those_for_outside_of_a_cluster() -> None:
    command: Any = typer.main.get_command(app)
    options = {
        option for each in command.commands["operator"].params for option in each.opts if option[:2] == "--"
    }
    given = {
        word.partition("=")[0]
        for values in SCENARIOS
        for words in _calls(values)
        if words[0] == "operator"
        for word in words[1:]
    }
    assert options - given == {"--kubeconfig", "--context", "--log-format"}


def _calls(values: Path) -> list[list[str]]:
    """Every call of ``agentrollout`` in a scenario, as its arguments."""
    found = []
    for _, template in pod_templates(values):
        for container in containers(template):
            if "command" not in container:
                found.append(list(container["args"]))
            elif container["command"][0] == "sh":
                (script,) = container["args"]
                found.append(shlex.split(script.split(">")[0])[1:])
            stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
            if stop:
                found.append(stop[1:])
    return found


def test_a_digest_pins_the_image_and_the_values_of_an_operator_reach_it() -> None:
    pod = one(STRICT, "Deployment", "-operator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"].endswith("@sha256:" + "0123456789abcdef" * 4)
    assert "--allowed-host=shop=*.shop.example.com" in container["args"]
    assert "--prometheus-url=https://prometheus-1.monitoring:9090" in container["args"]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["tolerations"][0]["key"] == "dedicated"


def test_servers_of_flags_and_the_secrets_for_them_reach_the_operator() -> None:
    pod = one(KILL_SWITCHES, "Deployment", "-operator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {argument for argument in container["args"] if argument.startswith(("--ofrep-", "--flagd-"))}
    assert given == {
        "--ofrep-url=https://flags.example.com",
        "--ofrep-http-config-file=/etc/agentrollout/ofrep/http.yaml",
        "--flagd-address=flagd-sync.flags:8015",
        "--flagd-ca-file=/etc/agentrollout/flagd/ca.crt",
    }
    secrets = {volume["name"]: volume.get("secret", {}).get("secretName") for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: secrets[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/etc/agentrollout/ofrep"] == "flags-client"
    assert mounts["/etc/agentrollout/flagd"] == "flagd-ca"


def test_secrets_may_be_read_only_where_references_to_them_are_on() -> None:
    def readable(values: Path) -> set[str]:
        rules = one(values, "ClusterRole", "-operator")["rules"]
        return {resource for rule in rules for resource in rule["resources"]}

    assert "secrets" in readable(STRICT)
    assert "secrets" not in readable(DEFAULT)


@scenarios
def test_nobody_is_granted_everything(values: Path) -> None:
    roles: list[Raw] = [found for found in objects(values) if found["kind"] in {"Role", "ClusterRole"}]
    assert len(roles) == 5
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])


def test_the_dockerfile_passes_hadolint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    outcome = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_routers_and_operators_have_certificates_of_one_authority_for_the_name_that_routers_ask_for() -> None:
    sides = {side: one(DEFAULT, "Secret", f"-xds-{side}")["data"] for side in ("operator", "router")}
    assert sides["operator"]["ca.crt"] == sides["router"]["ca.crt"]
    authority = x509.load_pem_x509_certificate(base64.b64decode(sides["router"]["ca.crt"]))
    for side, data in sides.items():
        certificate = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if side == "operator":
            asked = next(
                word.removeprefix("--xds-address=").partition(":")[0]
                for words in _calls(DEFAULT)
                for word in words
                if word.startswith("--xds-address=rel-")
            )
            assert names.get_values_for_type(x509.DNSName) == [asked]


def test_routers_of_ones_own_reach_the_operators_where_certificates_tell_who_may() -> None:
    def may_connect(values: Path) -> Raw:
        rules = one(values, "NetworkPolicy", "-operator")["spec"]["ingress"]
        (rule,) = (each for each in rules if each["ports"] == [{"port": "xds"}])
        return dict(rule)

    assert "from" not in may_connect(CHART / "ci" / "own-routers-values.yaml")
    assert "from" in may_connect(DEFAULT)


def test_autoscaling_leaves_the_number_of_routers_alone() -> None:
    assert "replicas" not in one(CHART / "ci" / "autoscaling-values.yaml", "Deployment", "-router")["spec"]
    assert one(DEFAULT, "Deployment", "-router")["spec"]["replicas"] == 2


def test_a_router_has_time_to_drain_before_it_is_killed() -> None:
    for values in SCENARIOS:
        for name, template in pod_templates(values):
            for container in containers(template):
                stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
                for argument in stop:
                    if argument.startswith("--timeout="):
                        seconds = int(argument.removeprefix("--timeout=").removesuffix("s"))
                        assert template["spec"]["terminationGracePeriodSeconds"] > seconds, name
