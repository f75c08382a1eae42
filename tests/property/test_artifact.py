"""Equal agents have equal IDs and different ones different IDs, whatever is in them."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from controller.api.agent import Agent
from controller.core.artifact import artifact_id
from controller.core.references import Resolved, resolve, text_content

Raw = dict[str, Any]

# Surrogates are no characters: neither JSON nor the API server lets them in.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
# YAML folds line breaks of all kinds where a text is not quoted; that is YAML's meaning, not a matter of style.
lines = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def agents_of(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Raw]:
    def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Raw]:
        return st.dictionaries(texts, values, min_size=1, max_size=3)

    json_values = st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    )
    model = {"provider": texts, "name": texts, "parameters": some(json_values)}
    parts = {"prompts": some(texts), "model": st.fixed_dictionaries(model), "dependencies": some(texts)}
    return st.fixed_dictionaries({"code": st.fixed_dictionaries({"url": texts}), **parts})


agents = agents_of(texts)


def identify(raw: Raw) -> str:
    return artifact_id(Agent.model_validate(raw))


def shuffled(value: Any, order: random.Random) -> Any:
    """The same with the keys of all maps in another order."""
    if isinstance(value, dict):
        keys = order.sample(sorted(value), len(value))
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(agents, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(agent: Raw, order: random.Random) -> None:
    assert identify(shuffled(agent, order)) == identify(agent)


@given(agents_of(lines), st.booleans(), st.sampled_from([None, "'", '"']), st.booleans())
def test_the_style_of_yaml_does_not_matter(
    agent: Raw, flow: bool, quotes: str | None, ascii_only: bool
) -> None:
    text = yaml.safe_dump(agent, default_flow_style=flow, default_style=quotes, allow_unicode=not ascii_only)
    assert identify(yaml.safe_load(text)) == identify(agent)


@given(agents, st.booleans())
def test_the_style_of_json_does_not_matter(agent: Raw, ascii_only: bool) -> None:
    assert identify(json.loads(json.dumps(agent, ensure_ascii=ascii_only, indent=1))) == identify(agent)


@given(agents, st.sampled_from(["prompts", "dependencies"]), st.data())
def test_another_prompt_or_dependency_changes_it(agent: Raw, part: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(agent[part])))
    assert_changes(agent, part, name, value=data.draw(texts))


@given(agents, st.data())
def test_another_parameter_changes_it(agent: Raw, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(agent["model"]["parameters"])))
    assert_changes(agent, "model", "parameters", name, value=data.draw(texts))


@given(agents, st.sampled_from([("code", "url"), ("model", "name"), ("model", "provider")]), texts)
def test_another_code_or_model_changes_it(agent: Raw, path: tuple[str, str], value: str) -> None:
    assert_changes(agent, *path, value=value)


@given(agents, st.sampled_from(["prompts", "dependencies"]), texts, texts)
def test_one_more_prompt_or_dependency_changes_it(agent: Raw, part: str, name: str, value: str) -> None:
    assume(name not in agent[part])
    assert_changes(agent, part, name, value=value)


@given(agents, st.sampled_from(["prompts", "dependencies"]), st.data())
def test_one_less_changes_it(agent: Raw, part: str, data: st.DataObject) -> None:
    changed = copy.deepcopy(agent)
    del changed[part][data.draw(st.sampled_from(sorted(agent[part])))]
    assert identify(changed) != identify(agent)


@given(agents, texts, texts)
def test_a_text_that_moves_to_another_field_changes_it(agent: Raw, name: str, value: str) -> None:
    """Nothing is merely joined: the ID knows where a text stands."""
    as_prompt = agent | {"prompts": {name: value}, "dependencies": {}}
    as_dependency = agent | {"prompts": {}, "dependencies": {name: value}}
    assert identify(as_prompt) != identify(as_dependency)


@given(agents, st.data())
def test_where_a_prompt_is_read_from_does_not_matter_and_its_text_does(
    agent: Raw, data: st.DataObject
) -> None:
    prompts = {name: f"{text}." for name, text in agent["prompts"].items()}  # white space alone is refused
    moved = data.draw(st.sets(st.sampled_from(sorted(prompts)), min_size=1))
    sources = {name: {"configMapKeyRef": {"name": "prompts", "key": "k"}} for name in moved}
    kept = {name: text for name, text in prompts.items() if name not in moved}
    referring = Agent.model_validate(agent | {"prompts": kept, "promptsFrom": sources})
    found = resolve(referring, {name: text_content(prompts[name]) for name in moved})
    assert isinstance(found, Resolved)
    assert found.record.artifact_id == identify(agent | {"prompts": prompts})
    changed = data.draw(st.sampled_from(sorted(moved)))
    other = resolve(
        referring, {name: text_content(prompts[name] + "!" * (name == changed)) for name in moved}
    )
    assert isinstance(other, Resolved)
    assert other.record.artifact_id != found.record.artifact_id
    assert other.record.spec_hash == found.record.spec_hash


def assert_changes(agent: Raw, *path: str, value: str) -> None:
    changed = copy.deepcopy(agent)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    assume(parent.get(path[-1]) != value)
    parent[path[-1]] = value
    assert identify(changed) != identify(agent)
