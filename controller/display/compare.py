"""``agentrollout diff``: what makes one version differ from another."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Version:
    """One side.

    Attributes:
        name: Of its AgentRevision.
        role: What it is to its rollout, such as stable; empty if nothing.
        agent: What it is made of, as its AgentRevision has it.
    """

    name: str
    role: str
    agent: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The heading of its side."""
        return f"{self.name} ({self.role})" if self.role else self.name


def compare(old: Version, new: Version) -> Group:
    """Prompts as a text diff; model, dependencies and code side by side."""
    parts: list[RenderableType] = [Text.assemble((old.title, "red"), "  →  ", (new.title, "green"))]
    for section in ("code", "model", "dependencies"):
        was, now = (_flat(each.agent.get(section) or {}) for each in (old, new))
        parts += _section(section, was, now, (old.name, new.name))
    olds, news = (_prompts(each.agent) for each in (old, new))
    for name in sorted(olds.keys() | news.keys()):
        parts += _prompt(name, olds.get(name), news.get(name))
    if len(parts) == 1:
        parts.append(Text("There is no difference."))
    return Group(*parts)


def _section(
    title: str, old: Mapping[str, str], new: Mapping[str, str], names: tuple[str, str]
) -> Iterator[RenderableType]:
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if not changed:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in (title.upper(), *names):
        table.add_column(name, overflow="fold", ratio=1 if name != title.upper() else None)
    for key in changed:
        table.add_row(key, Text(old.get(key, "–"), "red"), Text(new.get(key, "–"), "green"))
    same = len(old.keys() | new.keys()) - len(changed)
    yield Text()
    yield table
    if same:
        yield Text(f"{same} more {'is' if same == 1 else 'are'} the same", "dim")


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Each leaf of nested maps under its path."""
    if isinstance(value, dict):
        return {
            name: text
            for key, inner in value.items()
            for name, text in _flat(inner, f"{path}.{key}" if path else key).items()
        }
    return {path: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}


def _prompts(agent: Mapping[str, Any]) -> dict[str, str]:
    """All prompts as text; of one in a Secret only where it is, and a digest, is known."""
    secret = {
        name: f"in Secret {each['secretKeyRef']['name']}, key {each['secretKeyRef']['key']}, digest {each['digest']}"
        for name, each in (agent.get("promptsFrom") or {}).items()
    }
    return {**(agent.get("prompts") or {}), **secret}


def _prompt(name: str, old: str | None, new: str | None) -> Iterator[RenderableType]:
    if old == new:
        return
    yield Text()
    what = "was added" if old is None else "was removed" if new is None else "changed"
    yield Text.assemble((f"PROMPT {name}", "bold"), f" {what}")
    lines = difflib.unified_diff((old or "").splitlines(), (new or "").splitlines(), lineterm="", n=2)
    for number, line in enumerate(lines):
        if number >= 2:  # names of files, which prompts have not
            yield Text(line, _STYLES.get(line[:1], ""))


_STYLES = {"+": "green", "-": "red", "@": "cyan"}
