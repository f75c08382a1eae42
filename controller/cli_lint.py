"""``agentrollout lint``: files, before they are applied."""

from __future__ import annotations

from pathlib import Path

import typer

from controller.cli_values import fail
from controller.errors import ExitCode
from controller.lint.check import is_ours, problems
from controller.lint.rules import RulesError
from controller.manifests import Document, ManifestError, read_documents


def run(files: list[Path]) -> None:
    """See ``controller.cli_rollouts.lint``."""
    checked = wrong = 0
    for path in files:
        try:
            documents = [each for each in read_documents(path) if is_ours(each)]
        except ManifestError as error:
            typer.echo(str(error))
            wrong += 1
            continue
        checked += len(documents)
        wrong += sum(_told(path, each) for each in documents)
    if wrong:
        fail(f"{wrong} to mend, in {_count(len(files), 'file')}", ExitCode.FAILED)
    if not checked:
        fail("there is nothing of agentrollout.dev in there: give files with an AgentRollout", ExitCode.USAGE)
    typer.echo(f"{_count(checked, 'object')} in {_count(len(files), 'file')}: nothing to mend")


def _told(path: Path, document: Document) -> int:
    """How many problems were told; each is a line that editors can jump to."""
    try:
        found = problems(document)
    except RulesError as error:
        fail(str(error), ExitCode.USAGE)
    for each in sorted(found, key=lambda problem: document.line(problem.place)):
        typer.echo(f"{path}:{document.line(each.place)}: {each.field}: {each.message}")
    return len(found)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
