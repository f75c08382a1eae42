"""The pages that people read, as the tests of this folder look at them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[3]

Family = tuple[str, frozenset[str]]
"""Type and labels of a metric."""


def pages() -> list[Path]:
    """Every Markdown file of the repository, also one that is not committed yet."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in found if (ROOT / name).exists()]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block: what it says it is, and where it stands."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Link:
    """A link or picture to something in this repository."""

    file: str
    anchor: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    for token in _tokens(page):
        if token.type == "fence":
            yield Block(token.info.strip(), token.content, _line(token))


def links(page: Path) -> Iterator[Link]:
    for token in _tokens(page):
        for inner in token.children or ():
            target = inner.attrGet("href" if inner.type == "link_open" else "src")
            if isinstance(target, str) and not re.match(r"[a-z]+:", target):
                file, _, anchor = unquote(target).partition("#")
                yield Link(file, anchor, _line(token))


def files(page: Path) -> Iterator[tuple[str, int]]:
    """Files of this repository that are named as code, such as ``core/plan.py``."""
    for token in _tokens(page):
        for inner in token.children or ():
            if inner.type == "code_inline" and re.fullmatch(
                r"[\w-]+(/[\w-]+)+\.(py|yaml|md|sh|svg)", inner.content
            ):
                yield inner.content, _line(token)


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub makes of the headings; the second of one name ends in ``-1``."""
    seen: dict[str, int] = {}
    found = set()
    tokens = _tokens(page)
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            text = "".join(
                each.content for each in token.children or () if each.type in {"text", "code_inline"}
            )
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
            seen[slug] = seen.get(slug, 0) + 1
    return frozenset(found)


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, without their heads."""
    text = page.read_text("utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def metrics(*headings: str) -> dict[str, Family]:
    """What the reference of metrics says of each, below these headings."""
    page, found = ROOT / "docs" / "reference" / "metrics.md", {}
    for metric, kind, labels, meaning in (row for heading in headings for row in rows(page, heading)):
        assert meaning.endswith("."), metric
        assert metric.strip("`") not in found, f"{metric} stands twice"
        found[metric.strip("`")] = (kind, frozenset(re.findall(r"`(\w+)`", labels)))
    return found


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 0
