"""What people do with the records of comparisons: list, read side by side, label, and see how far judges agree with them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from controller.adapters.records import NoRecordsError, SqlRecords
from controller.adapters.shadow_ports import Label, Record, Records, RecordsError
from controller.cli_files import terminal
from controller.cli_values import fail
from controller.core.shadow.agreement import Agreement
from controller.core.shadow.comparison import Bin, CaseAnswer, Outcome
from controller.core.shadow.exchange import Replayed, Side
from controller.errors import ExitCode

_STYLES = {"win": "green", "loss": "bold red", "tie": "yellow"}
_REASON = 160
"""Characters of a reason in a list."""
_PREFIX = 8
"""Characters of an ID that may stand for it."""


def losses(rollout: str, url: str, limit: int, *, diverged: bool) -> None:
    """See ``controller.cli_shadow.losses``."""
    with _records(url) as records:
        found = records.last(rollout, Bin.DIVERGED if diverged else Bin.LOSS, limit)
        known = bool(found) or records.knows(rollout)
    if not found:
        none = "No diverged runs" if diverged else "No losses"
        terminal().print(
            f"{none} of {rollout} are recorded." if known else f"Nothing is recorded of {rollout} yet."
        )
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("time", "id", "status", "reason"):
        table.add_column(name, no_wrap=name != "reason", overflow="fold")
    for record in found:
        case = record.case
        statuses = f"{case.other.status or '–'} / {case.stable.status or '–'}"
        table.add_row(_clock(record.at), case.id, statuses, _plain(_reason(record)))
    console = terminal()
    console.print(table)
    console.print("Status: candidate / stable. Read one with: agentrollout shadow show ID")


def show(comparison: str, url: str) -> None:
    """See ``controller.cli_shadow.show``."""
    with _records(url) as records:
        record = _found(records, comparison)
        said = records.labels(comparison)
    console = terminal()
    case, subject = record.case, record.case.subject
    who = "candidate" if case.side is Side.CANDIDATE else "stable once more"
    version = subject.candidate_artifact if case.side is Side.CANDIDATE else subject.stable_artifact
    console.print(Text.assemble((subject.rollout, "bold"), f", {_clock(record.at)}: {who} beside stable"))
    console.print(_verdict(record))
    if case.replayed is not None:
        console.print(_replayed(case.replayed))
    for label in said:
        word = Text(label.outcome, _STYLES[label.outcome])
        console.print(Text.assemble(f"{_safe(label.by)} says ", word, f"  {_safe(label.reason)}".rstrip()))
    console.print(Text.assemble("\n", (f"{case.method} {_safe(case.path)}", "bold")))
    console.print(_plain(_readable(case.question)))
    table = Table(box=box.SQUARE, expand=True)
    table.add_column(f"{who}  {version[:17]}…", ratio=1, overflow="fold")
    table.add_column(f"stable  {subject.stable_artifact[:17]}…", ratio=1, overflow="fold")
    table.add_row(_answer(case.other), _answer(case.stable))
    console.print(table)


def label(comparison: str, outcome: Outcome, by: str, reason: str, url: str) -> None:
    """See ``controller.cli_shadow.label``."""
    with _records(url) as records:
        record = _found(records, comparison)
        records.label(Label(record.case.id, outcome, by, reason, time.time()))
    terminal().print(f"{record.case.id}: {by} says {outcome}, the record says {record.bin}.")


def agreement(rollout: str | None, url: str) -> None:
    """See ``controller.cli_shadow.agreement``."""
    with _records(url) as records:
        found = records.labelled(rollout)
    console = terminal()
    if not found:
        console.print("No judged comparison has a label yet: agentrollout shadow label ID win|loss|tie")
        return
    artifacts = list(dict.fromkeys(one.judge_artifact for one in found))
    for artifact in artifacts:
        said = Agreement.of((one.judged, one.labelled) for one in found if one.judge_artifact == artifact)
        console.print(_agreement(artifact, said))


def _agreement(artifact: str, said: Agreement) -> Group:
    table = Table(box=box.SIMPLE_HEAD, title=f"Judge {artifact[:23]}…", title_justify="left")
    table.add_column("judge says")
    for outcome in Outcome:
        table.add_column(f"people: {outcome}", justify="right")
    for judged in Outcome:
        table.add_row(judged, *(str(said.counts.get((judged, outcome), 0)) for outcome in Outcome))
    kappa = "not defined" if said.kappa is None else f"{said.kappa:.2f}"
    return Group(
        table,
        Text(f"The same {said.same} times of {said.total}; Cohen's kappa {kappa} (1: always, 0: by chance)."),
    )


def _verdict(record: Record) -> Text:
    text = Text.assemble(
        (record.bin.value, _STYLES.get(record.bin.value, "magenta")), f": {_safe(record.reason)}"
    )
    if record.judge_artifact:
        spent = f", {record.tokens} tokens" if record.tokens else ""
        model = f", {_safe(record.model)}" if record.model else ""
        text.append(f"\nJudge {record.case.subject.judge} {record.judge_artifact[:17]}…{model}{spent}", "dim")
    return text


def _reason(record: Record) -> str:
    run = record.case.replayed
    return f"{'' if run is None else f'[run, step {run.steps}] '}{record.reason}"[:_REASON]


def _replayed(run: Replayed) -> Text:
    end = f"diverged at step {run.steps}" if run.diverged else f"ended at step {run.steps}"
    calls = f"{run.calls} of {run.recorded} tool calls answered from the recording"
    return Text(f"Driven again from the start of stable's run: {end}, {calls}", "dim")


def _answer(answer: CaseAnswer) -> Group:
    status = f"HTTP {answer.status}" if answer.status else "no answer"
    head = Text(f"{status}  {answer.content_type}  {answer.seconds:.2f} s", "dim")
    return Group(head, _plain(_readable(answer.text)))


def _readable(text: str) -> str:
    """JSON indented, anything else as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _plain(text: str) -> Text:
    return Text(_safe(text))


def _safe(text: str) -> str:
    """Without what a terminal takes for commands: agents wrote it."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _found(records: Records, comparison: str) -> Record:
    record = records.get(comparison)
    if record is not None:
        return record
    found = records.beginning(comparison, 2) if len(comparison) >= _PREFIX else ()
    if not found:
        fail(f"no comparison {comparison} is recorded; see agentrollout shadow losses NAME", ExitCode.FAILED)
    if len(found) > 1:
        fail(f"more than one comparison begins with {comparison}: give more of its ID", ExitCode.USAGE)
    return found[0]


@contextmanager
def _records(url: str) -> Iterator[Records]:
    try:
        records = SqlRecords(url, create=False)
    except ValueError as error:
        fail(f"--records: {error}", ExitCode.USAGE)
    except NoRecordsError as error:
        fail(
            f"{error}: give --records (or AGENTROLLOUT_SHADOW_RECORDS) the URL that agentrollout shadow serve has",
            ExitCode.FAILED,
        )
    except RecordsError as error:
        fail(str(error), ExitCode.FAILED)
    try:
        yield records
    except RecordsError as error:
        fail(str(error), ExitCode.FAILED)
    finally:
        records.close()


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
