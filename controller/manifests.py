"""AgentRollouts in files, for commands that look at one before it is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from controller.api.rollout import AgentRollout
from controller.core.wellformed import broken_rule


class ManifestError(ValueError):
    """The file has no AgentRollout that could be applied; the message says why, naming file and field."""


def read_rollout(path: Path) -> AgentRollout:
    """The one AgentRollout in a YAML file, whatever else is in it.

    Raises:
        ManifestError: There is none, or several, or it breaks a rule that the API server would refuse it for.
    """
    try:
        found = [each for each in yaml.safe_load_all(path.read_text()) if _is_rollout(each)]
    except OSError as error:
        raise ManifestError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not YAML: it is not even text") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ManifestError(f"{path}{line} is not YAML: {error.problem}") from error
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
