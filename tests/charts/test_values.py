"""What the chart can be told, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from devkit.errors import DevkitError
from devkit.helm import Helm
from tests.charts.chart import CHART, SCENARIOS, Raw

SCHEMA: Raw = json.loads((CHART / "values.schema.json").read_text())
VALUES: Raw = yaml.safe_load((CHART / "values.yaml").read_text())
LEAST = "--set=prometheus.urls={http://prometheus:9090}"


def walk(schema: Raw, path: str = "") -> Iterator[tuple[str, Raw]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from walk(field, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from walk(schema["items"], f"{path}[]")


def test_there_are_scenarios_enough() -> None:
    assert len(SCENARIOS) >= 8


@pytest.mark.parametrize("values", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_passes_strict_lint(values: object) -> None:
    assert "0 chart(s) failed" in Helm().run("lint", "--strict", CHART, f"--values={values}")


def test_every_default_is_in_the_schema_and_every_field_of_the_schema_has_a_default() -> None:
    def described(schema: Raw, values: Raw, path: str = "") -> None:
        fields = schema.get("properties")
        if fields is None or not isinstance(values, dict):
            return
        missing = set(fields) - set(values) - {"global"}
        # What Kubernetes itself describes: a toleration, the parts of resources, peers.
        assert not missing or path.endswith(".resources"), f"{path}: {missing}"
        for name, value in values.items():
            assert name in fields, f"{path}.{name}"
            described(fields[name], value, f"{path}.{name}")

    described(SCHEMA, VALUES)


def test_no_object_of_the_schema_is_open() -> None:
    # Peers and labels are Kubernetes' own, which refuses what it does not know.
    open_ones = [
        path
        for path, schema in walk(SCHEMA)
        if schema.get("type") == "object" and "additionalProperties" not in schema and "Selector" not in path
    ]
    assert [
        path for path in open_ones if path not in {".global", ".networkPolicy.metricsFrom[].ipBlock"}
    ] == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("operatr.replicas=1", "additional properties 'operatr' not allowed"),
        ("operator.replica=1", "additional properties 'replica' not allowed"),
        ("operator.resources.limit.memory=1Gi", "additional properties 'limit' not allowed"),
        ("operator.replicas=0", "minimum: got 0, want 1"),
        ("operator.logLevel=verbose", "value must be one of 'debug', 'info', 'warning', 'error'"),
        ("router.service.type=Ingress", "value must be one of"),
        ("router.drainSeconds=1m", "got string, want integer"),
        ("prometheus.urls={prometheus:9090}", "does not match pattern"),
        ("killSwitches.ofrep.url=flags:8080", "does not match pattern"),
        ("killSwitches.flagd.address=https://flagd:8015", "does not match pattern"),
        ("image.digest=latest", "does not match pattern"),
        ("crds.keep=yes please", "got string, want boolean"),
    ],
)
def test_a_wrong_value_is_refused_and_named(setting: str, words: str) -> None:
    with pytest.raises(DevkitError) as refused:
        Helm().run("template", CHART, LEAST, f"--set={setting}")
    assert words in str(refused.value)
    assert setting.split("=", maxsplit=1)[0].split(".", maxsplit=1)[0] in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "missing"),
    [
        ("killSwitches.ofrep.httpConfigSecret=client", r"killSwitches\.ofrep\.url is empty: name the server"),
        ("killSwitches.flagd.caSecret=ca", r"killSwitches\.flagd\.address is empty: name the server"),
    ],
)
def test_a_secret_for_a_server_of_flags_without_the_server_is_refused(setting: str, missing: str) -> None:
    with pytest.raises(DevkitError, match=missing):
        Helm().run("template", CHART, LEAST, f"--set={setting}")


def test_secrets_for_tls_have_to_be_named() -> None:
    with pytest.raises(DevkitError, match=r"xds\.tls\.(operator|router)Secret is empty: name the Secret"):
        Helm().run("template", CHART, LEAST, "--set=xds.tls.mode=secrets")


def test_without_a_prometheus_the_chart_says_how_to_name_one() -> None:
    with pytest.raises(DevkitError, match=r"prometheus\.urls is empty: .* --set prometheus\.urls="):
        Helm().run("template", CHART)
