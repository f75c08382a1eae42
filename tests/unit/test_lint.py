"""What is wrong with objects in files, without an API server."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from controller.api.crdgen import KINDS, crd
from controller.cli import app
from controller.lint.check import is_ours, problems
from controller.lint.rules import broken_rules
from controller.lint.schema import Schema
from controller.manifests import Document, ManifestError, read_documents
from tests.crds.actions import action
from tests.crds.refusals import REFUSALS, Refusal, rollout

EXAMPLES = Path(__file__).parents[2] / "examples"
MINIMAL = (EXAMPLES / "minimal.yaml").read_text()


def lint(*files: Path | str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, ["lint", *(f"-f{file}" for file in files)], input=given)


def rules(schema: Schema) -> set[str]:
    """The sentences of all rules of a schema."""
    inner = [
        *(schema.get("properties") or {}).values(),
        schema.get("items"),
        schema.get("additionalProperties"),
    ]
    own = {rule["message"] for rule in schema.get("x-kubernetes-validations") or ()}
    return own.union(*(rules(each) for each in inner if isinstance(each, dict)))


SENTENCES = set().union(
    *(rules(crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]) for kind in KINDS)
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.title)
def test_what_the_api_server_refuses_is_found_without_it(refusal: Refusal) -> None:
    """The same table that the API server is held against, in the same words where the CRD has some."""
    found = problems(Document(refusal.manifest()))
    named = re.search(r'unknown field "(.*)"', refusal.field + refusal.words)
    field = re.sub(r"\[([^]0-9][^]]*)]", r".\1", named.group(1) if named else refusal.field)
    told = [each for each in found if re.sub(r"\[([^]0-9][^]]*)]", r".\1", each.field).startswith(field)]
    assert told, found
    by_rule = any(refusal.words in sentence for sentence in SENTENCES)
    if by_rule and not (refusal.title == "guardrail factor 1" and "must be at least 1.01" in told[0].message):
        assert any(refusal.words in each.message for each in told), told
    assert not [each for each in found if "cannot be asked here" in each.message]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_there_is_nothing_to_mend_in_an_example(path: Path) -> None:
    result = lint(path)
    assert result.exit_code == 0, result.output
    assert "nothing to mend" in result.stdout


def test_each_problem_is_a_line_with_file_line_field_and_way_out(tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text(
        MINIMAL + "  stages:\n  - {weight: 5%, minRequest: 3}\n  - weight: 100\n  inFlight: [Cut]\n"
    )
    first = len(MINIMAL.splitlines()) + 2
    result = lint(path)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{path}:{first}: spec.stages[0].minRequest: there is no such field: did you mean minRequests?",
        f'{path}:{first + 1}: spec.stages[1].weight: must be text: write it in quotes, "100"',
        f"{path}:{first + 2}: spec.inFlight: must be a map of fields",
    ]
    assert result.stderr == "agentrollout: 3 to mend, in 1 file\n"


def test_a_field_that_is_given_twice_is_found_although_yaml_keeps_the_last(tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text(MINIMAL + "  paused: true\n  paused: false\n")
    assert "spec.paused: is given more than once: remove one of them" in lint(path).stdout


def test_standard_input_is_read_and_objects_of_others_are_left_alone() -> None:
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\nnonsense: true\n---\n"
    result = lint("-", given=other + MINIMAL)
    assert (result.exit_code, result.stdout) == (0, "1 object in 1 file: nothing to mend\n")


def test_a_file_without_anything_of_ours_is_no_success() -> None:
    result = lint("-", given="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n")
    assert result.exit_code == 2
    assert "give files with an AgentRollout" in result.stderr


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"apiVersion": "agentrollout.dev/v1"}, "apiVersion", "must be agentrollout.dev/v1alpha1"),
        ({"kind": "AgentRolout"}, "kind", "must be one of AgentRollout, AgentRevision"),
        ({"metadata": {}}, "metadata.name", "is missing"),
        ({"metadata": None}, "metadata", "give a map of fields"),
        ({"spec": None}, "spec", "give a map of fields"),
        ({"spec": [1]}, "spec", "must be a map of fields"),
    ],
)
def test_what_is_no_object_of_ours_is_told_so(change: Schema, field: str, words: str) -> None:
    document = Document(rollout() | change)
    assert is_ours(document)
    (found,) = problems(document)
    assert found.field == field
    assert words in found.message


def test_an_object_that_gets_its_name_from_the_api_server_is_looked_at_all_the_same() -> None:
    asked = action("Pause", "alice")
    assert not problems(Document(asked))
    (found,) = problems(Document(asked | {"spec": asked["spec"] | {"reason": ""}}))
    assert (found.field, found.message) == ("spec.reason", "must say why, for those who read the history")


def test_status_is_the_controllers_and_is_not_looked_at() -> None:
    assert not problems(Document(rollout() | {"status": {"whatever": 1}}))


def test_keys_and_dates_are_text_as_for_kubectl(tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text("a: {1: x, true: y}\nb: 2026-01-31\n")
    (found,) = read_documents(path)
    assert found.raw == {"a": {"1": "x", "true": "y"}, "b": "2026-01-31"}


def test_a_document_that_contains_itself_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text("apiVersion: agentrollout.dev/v1alpha1\nkind: AgentRollout\nspec: &all {agent: *all}\n")
    with pytest.raises(ManifestError, match="contains itself"):
        read_documents(path)


def test_rules_are_asked_whichever_package_installed_the_folder_of_the_library_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = ModuleType("cel")  # with the empty __init__.py of xds-protos
    folder.__path__ = list(importlib.import_module("cel").__path__)
    monkeypatch.setitem(sys.modules, "cel", folder)
    schema = {"x-kubernetes-validations": [{"rule": "self == 'x'", "message": "must be x"}]}
    assert [found.message for found in broken_rules(schema, "y")] == ["must be x"]


@pytest.mark.parametrize("missing", ["cel", "cel.cel"])  # xds-protos alone has a folder, and nothing in it
def test_without_its_extra_lint_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "cel", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    path = tmp_path / "rollout.json"
    path.write_text(json.dumps(rollout()))
    result = lint(path)
    assert result.exit_code == 2
    assert "pip install 'agentrollout[lint]'" in result.stderr


def test_a_rule_that_the_library_does_not_know_is_a_problem_rather_than_silence() -> None:
    schema = {"x-kubernetes-validations": [{"rule": "self.unheardOf()", "message": "must be heard of"}]}
    (found,) = broken_rules(schema, "x", ("spec",))
    assert "--dry-run=server` does: must be heard of" in found.message
