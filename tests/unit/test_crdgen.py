from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api import chartgen, crdgen, docgen
from controller.api.crdgen import KINDS, Kind, crd, render, structural, unchecked

Raw = dict[str, Any]


def schema_of(kind: Kind) -> Raw:
    schema: Raw = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def walk(schema: Raw, path: str) -> Iterator[tuple[str, Raw]]:
    """Every schema below this one with its path; fields end in their name, items in ``[]``."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from walk(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from walk(schema[key], f"{path}[]")


def every(*parts: str) -> list[Any]:
    return [
        pytest.param(schema, id=f"{kind.short_names[0]}{path}")
        for kind in KINDS
        for part in parts
        if part in (properties := schema_of(kind)["properties"])
        for path, schema in walk(properties[part], f".{part}")
    ]


@pytest.mark.parametrize("schema", every("spec", "status"))
def test_every_field_has_a_type_and_every_named_one_a_description(
    schema: Raw, request: pytest.FixtureRequest
) -> None:
    assert schema["type"] in {"object", "array", "string", "integer", "number", "boolean"}
    if not request.node.name.endswith("[]]"):
        assert schema["description"][-1] == "."
        assert "``" not in schema["description"]


@pytest.mark.parametrize("schema", every("spec"))
def test_everything_in_the_spec_is_bounded(schema: Raw) -> None:
    bound = {"array": "maxItems", "string": "maxLength"}.get(schema["type"])
    if "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields"):
        bound = "maxProperties"
    if bound is not None and "enum" not in schema:
        assert bound in schema


@pytest.mark.parametrize("schema", every("spec"))
def test_rules_have_messages_that_are_no_patterns(schema: Raw) -> None:
    assert "pattern" not in schema
    for rule in schema.get("x-kubernetes-validations", ()):
        assert rule["message"]
        assert "^" not in rule["message"]


@pytest.mark.parametrize("schema", every("status"))
def test_nothing_keeps_the_controller_from_storing_a_status(schema: Raw) -> None:
    assert not {"x-kubernetes-validations", "enum", "pattern"} & set(schema)


@pytest.mark.parametrize("schema", every("spec", "status"))
def test_no_keyword_is_used_that_a_structural_schema_may_not_have(schema: Raw) -> None:
    assert not {"$ref", "$defs", "anyOf", "title", "const", "default", "nullable"} & set(schema)


def test_references_are_replaced_and_keep_the_words_beside_them() -> None:
    definitions = {
        "Stage": {"type": "object", "title": "Stage", "description": "One step.", "properties": {}}
    }
    plain = structural({"$ref": "#/$defs/Stage"}, definitions)
    assert plain == {"description": "One step.", "type": "object", "properties": {}}
    described = structural({"$ref": "#/$defs/Stage", "description": "The first step."}, definitions)
    assert described["description"] == "The first step."


def test_an_optional_field_has_the_type_that_it_has_when_it_is_there() -> None:
    definitions = {"Weight": {"type": "string", "maxLength": 9}}
    optional = {
        "anyOf": [{"$ref": "#/$defs/Weight"}, {"type": "null"}],
        "default": None,
        "description": "A share.",
    }
    assert structural(optional, definitions) == {"description": "A share.", "type": "string", "maxLength": 9}


def test_maps_keep_the_schema_of_their_values() -> None:
    schema = {
        "type": "object",
        "additionalProperties": {"title": "Text", "type": "string"},
        "maxProperties": 4,
    }
    assert structural(schema, {}) == {
        "type": "object",
        "maxProperties": 4,
        "additionalProperties": {"type": "string"},
    }


def test_a_map_of_anything_says_nothing_about_its_values() -> None:
    assert structural({"type": "object", "additionalProperties": True}, {}) == {"type": "object"}


def test_items_are_structural_too() -> None:
    definitions = {"Metric": {"title": "Metric", "type": "object"}}
    schema = {"type": "array", "items": {"$ref": "#/$defs/Metric"}}
    assert structural(schema, definitions) == {"type": "array", "items": {"type": "object"}}


@pytest.mark.parametrize(
    ("default", "text"),
    [
        ("10m", "Wait. Default: 10m."),
        (10.0, "Wait. Default: 10."),
        (5, "Wait. Default: 5."),
        ("", "Wait."),
        ([1], "Wait."),
    ],
)
def test_simple_defaults_are_told_in_the_description(default: object, text: str) -> None:
    assert structural({"description": "Wait.", "default": default}, {}) == {"description": text}


def test_descriptions_are_one_line_without_markup() -> None:
    assert structural({"description": "See\n    ``spec``."}, {}) == {"description": "See spec."}


def test_checks_are_taken_out_at_every_depth() -> None:
    inner = {"type": "string", "pattern": "a", "enum": ["a"], "x-kubernetes-validations": []}
    schema = {"type": "object", "properties": {"a": inner}, "required": ["a"]}
    assert unchecked(schema) == {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.model.__name__)
def test_the_file_says_what_the_crd_is_without_anchors(kind: Kind) -> None:
    text = render(kind)
    assert text.startswith("# Generated by `make crds`")
    assert "&id" not in text
    assert yaml.safe_load(text) == crd(kind)


@pytest.mark.parametrize("generator", [crdgen, chartgen, docgen], ids=["crds", "chart", "docs"])
def test_the_generated_files_are_current(generator: Any) -> None:
    assert generator.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("generator", "target"),
    [(crdgen, "crds"), (chartgen, "crds"), (docgen, "docs")],
    ids=["crds", "chart", "docs"],
)
def test_check_finds_a_stale_file_and_a_missing_one(
    generator: Any, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert generator.main([], folder) == 0
    assert generator.main(["--check"], folder) == 0
    stale, missing, *_ = sorted(folder.iterdir())
    stale.write_text(stale.read_text() + "\n")
    missing.unlink()
    assert generator.main(["--check"], folder) == 1
    names = f"{stale.name}, {missing.name}"
    assert capsys.readouterr().err == f"not current: {names}; run `make {target}` and commit the result\n"
    assert not missing.exists()
    assert generator.main([], folder) == 0
    assert generator.main(["--check"], folder) == 0


def test_the_chart_keeps_nothing_that_crds_no_longer_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chartgen.main([], tmp_path) == 0
    (tmp_path / "old.yaml").write_text("kind: CustomResourceDefinition\n")
    assert chartgen.main(["--check"], tmp_path) == 1
    assert "old.yaml" in capsys.readouterr().err
    assert chartgen.main([], tmp_path) == 0
    assert not (tmp_path / "old.yaml").exists()


def test_a_mistyped_option_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crdgen.main(["--chekc"], tmp_path) == 2
    assert list(tmp_path.iterdir()) == []
    assert "unknown arguments: --chekc" in capsys.readouterr().err
