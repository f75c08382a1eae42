"""Slim projections of our kinds: what informers keep of an object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from controller.api import GROUP, VERSION
from controller.api.agent import Agent, AgentParts, Code, PromptSource, Protocol
from controller.api.delivery import Analysis, Stage, default_stages
from controller.api.model import ObjectMeta
from controller.api.reasons import Reason
from controller.api.revision import AgentRevision
from controller.api.rollout import AgentRollout, EnvoyTraffic, RolloutSpec, Traffic
from controller.api.status import ResolvedReferences, RolloutStatus
from controller.core.artifact import artifact_id, revision_name, spec_hash
from controller.core.snapshot import Problem, Revision
from controller.core.traffic import Backend, ServicePort
from controller.core.wellformed import broken_rule
from controller.runtime.resource import Resource
from controller.runtime.store import InvalidObjectError

ROLLOUTS = Resource(GROUP, VERSION, "agentrollouts", "AgentRollout")
REVISIONS = Resource(GROUP, VERSION, "agentrevisions", "AgentRevision")

_DECISIVE = frozenset(
    {
        "stable",
        "candidate",
        "stage",
        "stalled",
        "weight",
        "frozen",
        "evidence",
        "rolledBack",
        "resolved",
        "pause",
        "approvals",
        "attempts",
        "actions",
        "killed",
        "draining",
    }
)
"""The fields of status that are state; all others are reports."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ObservedRollout:
    """An AgentRollout without its prompts.

    Attributes:
        rollout: Spec and status; the texts of the prompts are left out.
        artifact_id: The artifact that the spec wants; empty if it cannot be hashed, or if its references were not
            resolved yet.
        backend: Where it is served; None if that cannot be read from the spec.
        problem: What keeps the spec from being accepted, as far as the object alone tells.
        spec_hash: Of a spec with references: what they led to is remembered under it.
        agent: What the wanted version is made of, with its prompts, until status shows that its AgentRevision keeps it.
    """

    rollout: AgentRollout
    artifact_id: str
    backend: Backend | None
    problem: Problem | None
    spec_hash: str = ""
    agent: Agent | None = None

    @property
    def resolved(self) -> ResolvedReferences | None:
        """What the references of the spec led to, if it was remembered."""
        return next((r for r in self.rollout.status.resolved if r.spec_hash == self.spec_hash), None)


@dataclass(frozen=True, slots=True)
class ObservedRevision:
    """An AgentRevision without its agent.

    Attributes:
        owner: Key of the AgentRollout.
        key: Its own key.
        revision: What decisions use of it.
    """

    owner: str
    key: str
    revision: Revision


def observe_rollout(raw: dict[str, Any]) -> ObservedRollout:
    """The projection of an AgentRollout.

    A spec that breaks its schema (stored before a rule existed, for example) has a problem; what serves goes on.

    Raises:
        InvalidObjectError: The object cannot be read at all, above all the hosts that it claims, and is not being
            deleted.
    """
    rollout, broken = _rollout(raw)
    broken = broken or broken_rule(rollout.spec)
    agent = rollout.spec.agent
    slim = rollout.model_copy(
        update={"spec": rollout.spec.model_copy(update={"agent": agent.model_copy(update={"prompts": {}})})}
    )
    try:
        written = spec_hash(agent) if agent.prompts_from else ""
        known = next((r.artifact_id for r in rollout.status.resolved if r.spec_hash == written), "")
        artifact = known if written else artifact_id(agent)
        backend = _backend(agent, rollout.metadata.namespace, rollout.metadata.name, artifact)
        problem = Problem(Reason.INVALID, broken) if broken else None
        is_new = not (written or problem or _is_known(rollout.status, artifact))
        return ObservedRollout(
            slim, artifact, backend, problem, spec_hash=written, agent=agent if is_new else None
        )
    except ValueError as error:
        return ObservedRollout(slim, "", None, Problem(Reason.INVALID, broken or str(error)))


def observe_revision(raw: dict[str, Any]) -> ObservedRevision:
    """The projection of an AgentRevision.

    Raises:
        ValueError: If its agent has no Service or URL that can be used.
    """
    found = AgentRevision.model_validate(raw)
    if artifact_id(found.spec.agent) != found.spec.artifact_id:
        raise ValueError(f"{found.metadata.key} claims an artifact ID that is not the hash of its agent")
    created, model = found.metadata.creation_timestamp, found.spec.agent.model
    backend = _backend(found.spec.agent, found.metadata.namespace, found.spec.rollout, found.spec.artifact_id)
    return ObservedRevision(
        owner=f"{found.metadata.namespace}/{found.spec.rollout}",
        key=found.metadata.key,
        revision=Revision(
            found.metadata.name,
            found.spec.artifact_id,
            backend,
            created.timestamp() if created else 0.0,
            model=f"{model.provider}/{model.name}" if model else "",
        ),
    )


def _is_known(status: RolloutStatus, artifact: str) -> bool:
    """Whether the artifact is served, or was taken back: it has an AgentRevision, or needs none."""
    served = (ref.artifact_id for ref in (status.stable, status.candidate) if ref)
    return artifact in (*served, *status.rolled_back)


def _rollout(raw: dict[str, Any]) -> tuple[AgentRollout, str]:
    """The rollout, and what is wrong with its spec.

    Parts of the spec that break their schema are left out. Of a status with unknown words only what decisions go on with
    stays: a newer operator may have written a reason that this one does not know.
    """
    raw = {**raw, "spec": _with_shared_parts(raw["spec"])} if isinstance(raw.get("spec"), dict) else raw
    try:
        return AgentRollout.model_validate(raw), ""
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    places = [each["loc"] for each in found]
    parts = {place[1] for place in places if place[0] == "spec" and len(place) > 1}
    readable = dict(raw)
    if parts:
        readable["spec"] = {k: v for k, v in raw["spec"].items() if k not in parts} | (
            {"agent": {"code": {}}} if "agent" in parts else {}
        )
    if any(place[0] == "status" for place in places) and isinstance(raw["status"], dict):
        readable["status"] = {k: v for k, v in raw["status"].items() if k in _DECISIVE}
    broken = [each for each in found if each["loc"][0] != "status"]
    try:
        return AgentRollout.model_validate(readable), in_words(broken)
    except ValidationError as error:
        if "deletionTimestamp" in raw["metadata"]:
            return _on_its_way_out(raw["metadata"]), ""
        raise InvalidObjectError(in_words(broken) or in_words(error.errors())) from None


def _on_its_way_out(metadata: dict[str, Any]) -> AgentRollout:
    """A rollout that cannot be understood and need not be any more: its finalizer must not keep it for ever."""
    traffic = Traffic(envoy=EnvoyTraffic.model_construct(hosts=[]))
    agent = Agent(code=Code(url="http://unknown.invalid"))
    return AgentRollout(
        metadata=ObjectMeta.model_validate(metadata), spec=RolloutSpec(agent=agent, traffic=traffic)
    )


def in_words(errors: Sequence[ErrorDetails]) -> str:
    """The first few broken fields, each with what is wrong with it."""
    return "; ".join(
        f"{_field(each['loc'])}: {each['msg'].removeprefix('Value error, ')}" for each in errors[:3]
    )


def _field(place: tuple[int | str, ...]) -> str:
    """A field as people write it: spec.stages[0].weight."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _with_shared_parts(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec in which the parts that most rollouts have in common are the same objects in all of them."""
    shared: dict[str, Any] = {}
    for name, parse in (("stages", _stages), ("analysis", _analysis)):
        # What is not understood stays as it is: read in its place, the error names the place.
        with suppress(ValidationError):
            shared[name] = parse(json.dumps(spec.get(name)))
    return {**spec, **shared}


@lru_cache(maxsize=256)
def _stages(text: str) -> list[Stage]:
    return default_stages() if text == "null" else TypeAdapter(list[Stage]).validate_json(text)


@lru_cache(maxsize=256)
def _analysis(text: str) -> Analysis:
    return Analysis() if text == "null" else Analysis.model_validate_json(text)


def _backend(agent: AgentParts, namespace: str, rollout: str, artifact: str) -> Backend:
    revision, service = revision_name(rollout, artifact), agent.code.service
    http2 = agent.code.protocol is Protocol.HTTP2
    if service is not None:
        behind = ServicePort(f"{namespace}/{service.name}", service.port)
        return Backend(
            revision, artifact, f"{service.name}.{namespace}.svc", service.port, service=behind, http2=http2
        )
    try:
        url = urlsplit(agent.code.url or "")
        host, port = url.hostname, url.port or _DEFAULT_PORTS[url.scheme]
    except (KeyError, ValueError) as error:
        raise ValueError(f"spec.agent.code.url: {agent.code.url!r} is not http(s)://host[:port]") from error
    if not host:
        raise ValueError(f"spec.agent.code.url: {agent.code.url!r} has no host")
    return Backend(revision, artifact, host, port, tls=url.scheme == "https", http2=http2)


def hosts_of(observed: ObservedRollout) -> Iterable[str]:
    """Index function: the hosts that a rollout claims."""
    return observed.rollout.spec.traffic.envoy.hosts


def references_of(observed: ObservedRollout) -> Iterable[str]:
    """Index function: the ConfigMaps and Secrets, as ``kind/namespace/name``, that versions of a rollout refer to."""
    rollout = observed.rollout
    wanted = rollout.spec.agent.prompts_from.values()
    frozen = (ref for record in rollout.status.resolved for ref in record.references)
    return {source_key(rollout.metadata.namespace, source) for source in (*wanted, *frozen)}


def source_key(namespace: str, source: PromptSource) -> str:
    """``kind/namespace/name`` of what a prompt is read from."""
    return f"{source.kind}/{namespace}/{source.ref.name}"
