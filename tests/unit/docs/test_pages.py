"""What the pages promise by their form: links lead somewhere, and manifests are ones that could be applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.api.crdgen import KINDS, crd
from controller.manifests import read_rollout
from tests.unit.docs.pages import ROOT, anchors, blocks, files, links, name, pages

PAGES = pages()


def rollouts() -> list[Any]:
    return [
        pytest.param(document, id=f"{name(page)}:{block.line}")
        for page in PAGES
        for block in blocks(page)
        if block.language == "yaml"
        for document in yaml.safe_load_all(block.text)
        if isinstance(document, dict) and document.get("kind") == "AgentRollout"
    ]


def unknown(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    """Fields that the API server would drop, with a warning at most."""
    if isinstance(value, list):
        for each in value:
            yield from unknown(each, schema.get("items", {}), f"{path}[]")
    elif isinstance(value, dict) and "properties" in schema:
        for field, inner in value.items():
            if field in schema["properties"]:
                yield from unknown(inner, schema["properties"][field], f"{path}.{field}")
            else:
                yield f"{path}.{field}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for link in links(page):
        target = (page.parent / link.file).resolve() if link.file else page
        assert target.exists(), f"{name(page)}:{link.line}: there is no {link.file}"
        assert target.is_relative_to(ROOT), f"{name(page)}:{link.line}: {link.file} is outside"
        if link.anchor and target.suffix == ".md":
            known = anchors(target)
            assert link.anchor in known, f"{name(page)}:{link.line}: {name(target)} has no #{link.anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    for file, line in files(page):
        places = ROOT / file, ROOT / "controller" / file, page.parent / file
        assert any(each.exists() for each in places), f"{name(page)}:{line}: there is no {file}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_yaml_block_is_yaml(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml":
            list(yaml.safe_load_all(block.text))


def test_the_pages_have_manifests() -> None:
    assert rollouts()


@pytest.mark.parametrize("document", rollouts())
def test_every_agent_rollout_in_the_pages_could_be_applied(document: dict[str, Any], tmp_path: Path) -> None:
    manifest = tmp_path / "rollout.yaml"
    manifest.write_text(yaml.safe_dump(document))
    read_rollout(manifest)
    (kind,) = (each for each in KINDS if each.model.__name__ == "AgentRollout")
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert not list(unknown(document["spec"], schema["properties"]["spec"], "spec"))
