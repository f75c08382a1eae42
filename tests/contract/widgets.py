"""What the contract of an API server is told about."""

import json

from controller.runtime.resource import RawObject, Resource

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
WIDGETS = Resource("runtime-tests.example.com", "v1", "widgets", "Widget")


def widget_definition(minimum: int) -> str:
    """A CRD with a status subresource whose ``spec.size`` has a minimum."""
    spec = {"type": "object", "properties": {"size": {"type": "integer", "minimum": minimum}}}
    status = {"type": "object", "properties": {"seen": {"type": "integer"}, "note": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": spec, "status": status}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget"}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.runtime-tests.example.com"},
            "spec": {
                "group": "runtime-tests.example.com",
                "scope": "Namespaced",
                "names": names,
                "versions": [version],
            },
        }
    )


def config_map(namespace: str, name: str, **data: str) -> RawObject:
    return {"metadata": {"namespace": namespace, "name": name}, "data": data}


def widget(namespace: str, name: str, size: int = 1) -> RawObject:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"size": size}}
