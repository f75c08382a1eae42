"""``agentrollout approve``, ``promote``, ``pause``, ``resume``, ``abort`` and ``retry``: hands on the wheel.

What they do is only imported once one of them is called, as in `controller.cli_evidence`: somebody may be in a hurry.
"""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli_values import Context, Kubeconfig, Name, Namespace, Where, Why

ArtifactOption = Annotated[
    str | None,
    typer.Option(
        "--artifact",
        metavar="ID|VERSION",
        help="What it is about: an artifact ID, or a version as `agentrollout history` names it. Left out: the candidate's; "
        "for retry that of what the spec wants.",
    ),
]


def approve(
    name: Name,
    reason: Why,
    artifact: ArtifactOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Approve of the candidate, for the next stage that asks for it.

    Example: agentrollout approve support-agent -n shop --reason "I read twenty answers."
    """
    _ask("Approve", name, reason, artifact, Where(kubeconfig, context, namespace))


def promote(
    name: Name,
    reason: Why,
    artifact: ArtifactOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """End the candidate's stage now, unless something has failed: it waits for no more time or evidence.

    Example: agentrollout promote support-agent -n shop --reason "Mends what users wait for."
    """
    _ask("Promote", name, reason, artifact, Where(kubeconfig, context, namespace))


def pause(
    name: Name,
    reason: Why,
    artifact: ArtifactOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Let the candidate's weight rise no more until someone resumes. It is still watched, and taken back if it fails.

    Example: agentrollout pause support-agent -n shop --reason "Wait for the legal team."
    """
    _ask("Pause", name, reason, artifact, Where(kubeconfig, context, namespace))


def resume(
    name: Name,
    reason: Why,
    artifact: ArtifactOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Take back a pause, or release a kill whose switches are all off.

    Example: agentrollout resume support-agent -n shop --reason "They agree."
    """
    _ask("Resume", name, reason, artifact, Where(kubeconfig, context, namespace))


def abort(
    name: Name,
    reason: Why,
    artifact: ArtifactOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Take the candidate back at once. It is not tried again unless someone says retry.

    Example: agentrollout abort support-agent -n shop --reason "Answers in the wrong language."
    """
    _ask("Abort", name, reason, artifact, Where(kubeconfig, context, namespace))


def retry(
    name: Name,
    reason: Why,
    artifact: ArtifactOption = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Try anew what was taken back, from the first stage.

    Example: agentrollout retry support-agent -n shop --reason "The tool was down, not the agent."
    """
    _ask("Retry", name, reason, artifact, Where(kubeconfig, context, namespace))


def _ask(action: str, name: str, reason: str, artifact: str | None, where: Where) -> None:
    from controller.api.action import ActionName  # noqa: PLC0415  see above
    from controller.cli_act import run  # noqa: PLC0415  see above

    run(ActionName(action), name, reason, artifact, where)
