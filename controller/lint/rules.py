"""The rules of a CRD (``x-kubernetes-validations``, CEL), asked as the API server asks them.

The rules stand beside the fields in `controller.api`; nothing of them is written down a second time here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from controller.lint.schema import Problem, Schema
from controller.manifests import Place

_RESERVED = frozenset({"as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop"}) | {
    "namespace", "package", "return", "var", "void", "while", "true", "false", "null",
}  # fmt: skip
"""Words of CEL: a field of that name is ``self.__for__`` in a rule."""


class RulesError(Exception):
    """The rules cannot be asked here; the message says what to do."""


def broken_rules(
    schema: Schema, found: Any, place: Place = (), misshapen: Collection[Place] = ()
) -> Iterator[Problem]:
    """Every rule that an object breaks. Rules about a change of it are left out: there is no older one here.

    Args:
        schema: An ``openAPIV3Schema``.
        found: The object.
        place: Where it stands.
        misshapen: What has not the shape of its schema; rules about it, or about anything around it, are not asked.

    Raises:
        RulesError: The extra ``lint`` is not installed.
    """
    rules = schema.get("x-kubernetes-validations") or ()
    for rule in rules if not any(each[: len(place)] == place for each in misshapen) else ():
        if "oldSelf" not in rule["rule"] and (problem := _ask(rule, schema, found, place)):
            yield problem
    if isinstance(found, list):
        for number, each in enumerate(found):
            yield from broken_rules(schema.get("items") or {}, each, (*place, number), misshapen)
    elif isinstance(found, dict):
        properties, more = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, each in found.items():
            inner = properties.get(name) or (more if isinstance(more, dict) else {})
            yield from broken_rules(inner, each, (*place, name), misshapen)


def _ask(rule: dict[str, str], schema: Schema, found: Any, place: Place) -> Problem | None:
    context = _cel().Context({"self": _as_cel(schema, found)}, _FUNCTIONS)
    inner = tuple(part for part in rule.get("fieldPath", "").split(".") if part)
    try:
        if _compiled(rule["rule"]).execute(context):
            return None
    except (RuntimeError, TypeError, ValueError) as error:
        message = (
            f"a rule cannot be asked here, `kubectl apply --dry-run=server` does: {rule['message']} ({error})"
        )
        return Problem((*place, *inner), message)
    return Problem((*place, *inner), rule["message"])


def _cel() -> ModuleType:
    try:
        # The extension itself: xds-protos has a `cel/__init__.py` too, and which of the two is there is chance.
        from cel import cel  # noqa: PLC0415  of an extra, which not everyone has
    except ImportError as error:
        raise RulesError(
            "the rules of the CRDs need the extra lint: pip install 'agentrollout[lint]'"
        ) from error
    return cel


@lru_cache(maxsize=512)
def _compiled(rule: str) -> Any:
    return _cel().compile(rule)


def _as_cel(schema: Schema, found: Any) -> Any:
    """The object as rules see it."""
    if isinstance(found, list):
        return [_as_cel(schema.get("items") or {}, each) for each in found]
    if isinstance(found, dict):
        properties = schema.get("properties") or {}
        return {
            f"__{name}__" if name in properties and name in _RESERVED else name: _as_cel(
                properties.get(name) or {}, each
            )
            for name, each in found.items()
        }
    return float(found) if schema.get("type") == "number" else found


# What Kubernetes adds to the language and the library does not have. It calls a method with its object first.
_FUNCTIONS = {
    "isSorted": lambda items: list(items) == sorted(items),
    "sum": sum,
    "trim": str.strip,
    "replace": lambda text, old, new: text.replace(old, new),
}
