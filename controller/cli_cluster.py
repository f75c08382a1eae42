"""What all commands that speak to a cluster share: the connection, and its errors as sentences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from controller.api.rollout import AgentRollout
from controller.cli_values import Where, fail
from controller.errors import ExitCode
from controller.reconcilers.observed import ROLLOUTS, in_words
from controller.runtime.client import ResourceClient
from controller.runtime.errors import (
    ApiError,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from controller.runtime.recorder import EVENTS
from controller.runtime.resource import RawObject, Resource
from controller.runtime.transport import ConfigurationError, KubernetesTransport
from controller.settings import own_namespace

FIELD_MANAGER = "agentrollout-cli"

_POLL_SECONDS = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The connection of one command.

    Attributes:
        transport: To the API server.
        namespace: The one that the command is about.
    """

    transport: KubernetesTransport
    namespace: str

    def client(self, resource: Resource, *, fields: str = "", everywhere: bool = False) -> ResourceClient:
        """For one resource in the namespace, or ``everywhere``; ``fields`` selects, as in ``metadata.name=agent``."""
        namespace = "" if everywhere else self.namespace
        return ResourceClient(
            self.transport, resource, field_manager=FIELD_MANAGER, namespace=namespace, field_selector=fields
        )

    async def all_of(
        self, resource: Resource, *, fields: str = "", everywhere: bool = False
    ) -> list[RawObject]:
        """Every object of a resource, see `client`."""
        client = self.client(resource, fields=fields, everywhere=everywhere)
        found: list[RawObject] = []
        token = ""
        while True:
            page = await client.list_page(continue_token=token)
            found += page.items
            token = page.continue_token
            if not token:
                return found

    async def get(self, resource: Resource, name: str) -> RawObject:
        """One object of the namespace.

        Raises:
            NotFound: There is none; the message says where to look.
        """
        try:
            return await self.client(resource).get(f"{self.namespace}/{name}")
        except NotFound as error:
            if not error.reason:
                raise
            lists = "get -A` lists all" if resource == ROLLOUTS else "history` lists versions and actions of"
            raise NotFound(
                f"there is no {resource.kind} {self.namespace}/{name}: -n names another namespace, and "
                f"`agentrollout {lists} AgentRollouts",
                code=error.code,
                reason=error.reason,
            ) from error

    async def until(
        self, resource: Resource, name: str, holds: Callable[[RawObject], bool], seconds: float
    ) -> RawObject | None:
        """The object as soon as the condition holds; None if it does not in time.

        Raises:
            ApiError: It cannot be read, for more than that the API server is away or busy.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            with suppress(Unavailable, TooManyRequests):  # what is lost on the way is asked for again
                found = await self.get(resource, name)
                if holds(found):
                    return found
            await asyncio.sleep(_POLL_SECONDS)
        return None

    async def rollout(self, name: str) -> AgentRollout:
        """One AgentRollout of the namespace, see `get`."""
        return read_rollout(await self.get(ROLLOUTS, name))

    async def events(self, name: str) -> list[RawObject]:
        """What Kubernetes still knows of an AgentRollout, an hour unless its API server was told otherwise."""
        return await self.all_of(EVENTS, fields=f"regarding.kind={ROLLOUTS.kind},regarding.name={name}")


def read_rollout(raw: RawObject) -> AgentRollout:
    """The object, or the end of the command."""
    try:
        return AgentRollout.model_validate(raw)
    except ValidationError as error:
        name = (raw.get("metadata") or {}).get("name")
        problem = in_words(error.errors(include_url=False, include_input=False))
        fail(
            f"{name} cannot be understood (is this agentrollout older than the operator?): {problem}",
            ExitCode.FAILED,
        )


def in_cluster(where: Where, work: Callable[[Cluster], Awaitable[T]]) -> T:
    """Connect, do the work, disconnect. What goes wrong ends the command in a sentence."""
    return asyncio.run(_connected(where, work))


async def _connected(where: Where, work: Callable[[Cluster], Awaitable[T]]) -> T:
    try:
        transport = await KubernetesTransport.connect(
            kubeconfig=where.kubeconfig, context=where.context, user_agent=FIELD_MANAGER
        )
    except ConfigurationError as error:
        fail(str(error), ExitCode.USAGE)
    namespace = where.namespace or transport.namespace or own_namespace()
    try:
        return await work(Cluster(transport, namespace))
    except ApiError as error:
        fail(in_a_sentence(error, transport.host), ExitCode.FAILED)
    finally:
        await transport.close()


def in_a_sentence(error: ApiError, host: str) -> str:
    """What went wrong between a person and an API server, and what to do.

    Args:
        error: As raised by `controller.runtime`.
        host: URL of the API server.
    """
    # What was asked (method, path, and the code of the answer) is for logs.
    detail = str(error).split(": ", 2 if error.code else 1)[-1]
    match error:
        case Unavailable():
            return f"the API server at {host} cannot be reached ({detail}): is --context the right one?"
        case Unauthorized():
            return f"the API server at {host} does not know you: log in again, or choose another --context"
        case Forbidden():
            return _refusal(detail)
        case NotFound() if not error.reason:
            return (
                f"the API server at {host} does not know what was asked for: apply the CRDs of this version, "
                "kubectl apply -f crds/"
            )
        case NotFound():
            return str(error)
    return detail


def _refusal(detail: str) -> str:
    """Of a policy, which says what to do itself, or of RBAC, which does not."""
    if "denied request: " in detail:
        return detail.partition("denied request: ")[2]
    return f"you are not allowed to: {detail.partition('forbidden: ')[2] or detail}. Ask for a Role that allows it"
