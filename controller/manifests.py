"""AgentRollouts in files, for commands that look at one before it is applied."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from controller.api.rollout import AgentRollout
from controller.core.wellformed import broken_rule

Place = tuple[str | int, ...]
"""Where something stands within an object: keys and positions, from its root."""

STDIN = Path("-")


class ManifestError(ValueError):
    """The file has no AgentRollout that could be applied; the message says why, naming file and field."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file.

    Attributes:
        raw: As it is sent to the API server.
        lines: The line of each of its fields, from 1.
        duplicates: Fields that are given more than once; the last one counts.
    """

    raw: Any
    lines: Mapping[Place, int] = field(default_factory=dict)
    duplicates: tuple[Place, ...] = ()

    def line(self, place: Place) -> int:
        """The line of a field or, if it is not there, of what it would stand in."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


class _Loader(yaml.SafeLoader):
    """Reads YAML as kubectl does: keys are text, and so is what looks like a date."""

    yaml_implicit_resolvers = {  # noqa: RUF012  the base class has it as a plain dict
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def read_documents(path: Path) -> list[Document]:
    """All objects in a YAML or JSON file; ``-`` is standard input.

    Raises:
        ManifestError: It cannot be read, or is no YAML.
    """
    name = "standard input" if path == STDIN else str(path)
    try:
        text = sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8")
        return list(_documents(text))
    except OSError as error:
        raise ManifestError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{name} is not YAML: it is not even text") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ManifestError(f"{name}{line} is not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ManifestError(f"{name} is not YAML: {error}") from error


def _documents(text: str) -> Iterator[Document]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101  there is one, by the check
            lines: dict[Place, int] = {}
            duplicates: list[Place] = []
            _locate(node, (), lines, duplicates, {})
            yield Document(loader.construct_document(node), lines, tuple(duplicates))
    finally:
        loader.dispose()


def _locate(
    node: yaml.Node, place: Place, lines: dict[Place, int], duplicates: list[Place], done: dict[int, bool]
) -> None:
    """Note the lines of a node and of all in it; what an alias repeats is noted once."""
    lines.setdefault(place, node.start_mark.line + 1)
    if id(node) in done:
        if not done[id(node)]:
            raise yaml.MarkedYAMLError(problem="it contains itself", problem_mark=node.start_mark)
        return
    done[id(node)] = False
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            if inner in lines:
                duplicates.append(inner)
            lines[inner] = key.start_mark.line + 1
            _locate(value, inner, lines, duplicates, done)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _locate(item, (*place, number), lines, duplicates, done)
    done[id(node)] = True


def read_rollout(path: Path) -> AgentRollout:
    """The one AgentRollout in a YAML file, whatever else is in it.

    Raises:
        ManifestError: There is none, or several, or it breaks a rule that the API server would refuse it for.
    """
    found = [each.raw for each in read_documents(path) if _is_rollout(each.raw)]
    if len(found) != 1:
        raise ManifestError(f"{path} has {len(found) or 'no'} AgentRollouts: give a file with one")
    (raw,) = found
    raw = {**raw, "metadata": {"namespace": "default", "uid": "", **(raw.get("metadata") or {})}}
    raw.pop("status", None)
    try:
        rollout = AgentRollout.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ManifestError(f"{path}: {field}: {first['msg'].removeprefix('Value error, ')}") from error
    if broken := broken_rule(rollout.spec):
        raise ManifestError(f"{path}: {broken}")
    return rollout


def _is_rollout(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == "AgentRollout"
