"""``agentrollout get``, ``status``, ``history``, ``diff`` and ``lint``: what people ask about rollouts.

What they do is only imported once one of them is called, as in `controller.cli_evidence`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controller.cli_values import Context, Kubeconfig, Name, Namespace, Output, OutputOption, Where


def get(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Left out: all.")] = None,
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Of every namespace.")
    ] = False,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """List AgentRollouts: what serves, what is on its way, and how far.

    Example: agentrollout get -n shop -o wide
    """
    from controller.cli_read import get as run  # noqa: PLC0415  see above

    if names and all_namespaces:
        raise typer.BadParameter("a name is one namespace's: leave out -A, or the name")
    run(names or [], Where(kubeconfig, context, namespace), output, all_namespaces)


def status(
    name: Name,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on showing it; Ctrl+C ends it.")] = False,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show where one rollout is: its stage and weight, each verdict with its numbers, conditions, what happened last.

    With `--watch` where the output is no terminal: a line whenever something of note changes.

    Example: agentrollout status support-agent -n shop --watch
    """
    from controller.cli_status import run  # noqa: PLC0415  see above

    run(name, Where(kubeconfig, context, namespace), watch, output)


def history(
    name: Name,
    output: OutputOption = Output.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show the versions of a rollout and what became of each, and what happened.

    Versions beyond `spec.revisionHistoryLimit` are gone; events are kept by Kubernetes for an hour or so.

    Example: agentrollout history support-agent -n shop
    """
    from controller.cli_read import history as run  # noqa: PLC0415  see above

    run(name, Where(kubeconfig, context, namespace), output)


def diff(
    name: Annotated[str, typer.Argument(help="The AgentRollout or, with a second name, an AgentRevision.")],
    other: Annotated[str | None, typer.Argument(help="Another AgentRevision.")] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show what makes the candidate differ from stable: prompts as a diff, model, dependencies and code side by side.

    Without a candidate, the version that was taken back last. With two names, these two versions.

    Example: agentrollout diff support-agent -n shop
    """
    from controller.cli_read import diff as run  # noqa: PLC0415  see above

    run(name, other, Where(kubeconfig, context, namespace))


def lint(
    files: Annotated[
        list[Path],
        typer.Option(
            "-f", "--filename", metavar="FILE", help="YAML or JSON; repeat it. - is standard input."
        ),
    ],
) -> None:
    """Say what is wrong with AgentRollouts in files, before they are applied and without a cluster.

    Unknown fields, values out of bounds and every rule of the CRDs, each with its line. Other objects in the files are
    left alone. Ends with 1 if there is something to mend. Needs the extra `lint` (`pip install 'agentrollout[lint]'`).

    Example: agentrollout lint -f rollout.yaml
    """
    from controller.cli_lint import run  # noqa: PLC0415  see above

    run(files)
