from typing import Any

import pytest

from controller.runtime.resource import Resource, key_of, object_key, resource_version_of, split_key

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CONFIG_MAPS.path(), "/api/v1/configmaps"),
        (CONFIG_MAPS.path("ns"), "/api/v1/namespaces/ns/configmaps"),
        (LEASES.path("ns", "a", "status"), "/apis/coordination.k8s.io/v1/namespaces/ns/leases/a/status"),
        (NODES.path("", "a"), "/api/v1/nodes/a"),
        (LEASES.path("ns", "../x?y"), "/apis/coordination.k8s.io/v1/namespaces/ns/leases/..%2Fx%3Fy"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert path == expected


def test_names() -> None:
    assert (CONFIG_MAPS.name, CONFIG_MAPS.api_version) == ("configmaps", "v1")
    assert (LEASES.name, LEASES.api_version) == ("leases.coordination.k8s.io", "coordination.k8s.io/v1")


@pytest.mark.parametrize(("namespace", "name", "key"), [("ns", "a", "ns/a"), ("", "a", "a")])
def test_keys_go_both_ways(namespace: str, name: str, key: str) -> None:
    assert object_key(namespace, name) == key
    assert split_key(key) == (namespace, name)
    assert key_of({"metadata": {"namespace": namespace, "name": name}}) == key


@pytest.mark.parametrize("raw", [{}, {"metadata": None}, {"metadata": {"name": ""}}])
def test_an_object_without_a_name_has_no_key(raw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="without metadata"):
        key_of(raw)


@pytest.mark.parametrize("version", [None, "", "x1", "-1", 7])
def test_a_resource_version_is_a_decimal_number(version: object) -> None:
    with pytest.raises(ValueError, match="is not a decimal number"):
        resource_version_of({"metadata": {"resourceVersion": version}})
