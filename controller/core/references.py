"""References become content, once: what an agent with references is made of, and whether that is still so.

A ConfigMap's text becomes a prompt as if it had been written into the spec. Of a Secret nothing but a keyed digest is
ever kept: without the key nobody can try guesses against it, and with namespace, name and key of the Secret in it,
nobody learns by a Secret of their own whether two are equal.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.api.agent import MAX_PROMPT_BYTES, Agent, FrozenAgent, FrozenSecret, KeyRef, PromptSource
from controller.api.reasons import Reason
from controller.api.status import FrozenReference, ResolvedReferences, RolloutStatus
from controller.core.artifact import artifact_id, revision_name, spec_hash
from controller.core.snapshot import Drift, Problem

MIN_KEY_BYTES = 32

UNRESOLVED = Problem(Reason.REF_NOT_FOUND, "spec.agent.promptsFrom: the references have not been read yet")
"""Stands while nobody has read them; only a cut may be decided then."""


@dataclass(frozen=True, slots=True)
class SecretKey:
    """The operator's key for digests of Secrets.

    Attributes:
        key: At least 32 bytes that only operators know.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) < MIN_KEY_BYTES:
            raise ValueError(f"has {len(self.key)} bytes, and at least {MIN_KEY_BYTES} are needed")

    @property
    def name(self) -> str:
        """Tells one key from another without telling anything of it."""
        return hmac.digest(self.key, b"agentrollout key name", "sha256").hex()[:8]

    def digest(self, namespace: str, ref: KeyRef, content: bytes) -> str:
        """``hmac-sha256:<name of the key>:<hex>`` of a Secret's content and its place."""
        message = b"\0".join([namespace.encode(), ref.name.encode(), ref.key.encode(), content])
        return f"hmac-sha256:{self.name}:{hmac.digest(self.key, message, 'sha256').hex()}"


@dataclass(frozen=True, slots=True)
class Content:
    """What a reference leads to.

    Attributes:
        digest: Of the content.
        size: Its bytes.
        text: The content of a ConfigMap; None for a Secret.
        blank: Whether there is nothing but white space in it.
    """

    digest: str
    size: int
    text: str | None = field(default=None, repr=False)
    blank: bool = False


@dataclass(frozen=True, slots=True)
class NoContent:
    """Why a reference leads nowhere.

    Attributes:
        message: What is wrong and the way out, for a sentence that begins with the field.
        reason: In a word; RefNotFound alone says that there is certainly no such content.
    """

    message: str
    reason: Reason = Reason.REF_NOT_FOUND


Found = Mapping[str, Content | NoContent]
"""What each reference led to, by the name of the prompt."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """An agent with everything that it refers to.

    Attributes:
        agent: The agent as it becomes a version.
        record: What is remembered of its references.
    """

    agent: FrozenAgent
    record: ResolvedReferences


def text_content(text: str) -> Content:
    """The content of a ConfigMap's key."""
    encoded = text.encode()
    return Content(
        f"sha256:{hashlib.sha256(encoded).hexdigest()}", len(encoded), text, blank=not text.strip()
    )


def secret_content(key: SecretKey, namespace: str, ref: KeyRef, content: bytes) -> Content:
    """The content of a Secret's key; nothing of it is in the result."""
    return Content(key.digest(namespace, ref, content), len(content), blank=not content.strip())


def resolve(agent: Agent, found: Found) -> Resolved | Problem:
    """The agent with what its references led to, or what keeps it from becoming a version."""
    contents: dict[str, Content] = {}
    for prompt, source in sorted(agent.prompts_from.items()):
        content, where = found[prompt], f"spec.agent.promptsFrom.{prompt}.{source.field}"
        if isinstance(content, NoContent):
            return Problem(content.reason, f"{where}: {content.message}")
        if content.blank:
            return Problem(
                Reason.INVALID, f"{where}: {_what(source)} is empty; write the prompt or remove its name"
            )
        contents[prompt] = content
    size = sum(len(text.encode()) for text in agent.prompts.values()) + sum(c.size for c in contents.values())
    if size > MAX_PROMPT_BYTES:
        return Problem(
            Reason.INVALID,
            f"spec.agent.promptsFrom: prompts together have {size} bytes, more than {MAX_PROMPT_BYTES} (128 KiB); "
            "shorten them",
        )
    try:
        return _resolved(agent, contents)
    except ValueError as error:
        return Problem(Reason.INVALID, str(error))


def _resolved(agent: Agent, contents: Mapping[str, Content]) -> Resolved:
    texts = {prompt: content.text for prompt, content in contents.items() if content.text is not None}
    secrets = {
        prompt: FrozenSecret(secret_key_ref=source.ref, digest=contents[prompt].digest)
        for prompt, source in agent.prompts_from.items()
        if prompt not in texts
    }
    frozen = FrozenAgent(
        code=agent.code,
        prompts={**agent.prompts, **texts},
        prompts_from=secrets,
        model=agent.model,
        dependencies=agent.dependencies,
    )
    references = [
        FrozenReference(
            prompt=prompt,
            config_map_key_ref=source.config_map_key_ref,
            secret_key_ref=source.secret_key_ref,
            digest=contents[prompt].digest,
        )
        for prompt, source in sorted(agent.prompts_from.items())
    ]
    record = ResolvedReferences(
        spec_hash=spec_hash(agent), artifact_id=artifact_id(frozen), references=references
    )
    return Resolved(frozen, record)


def drift_of(rollout: str, record: ResolvedReferences, found: Found) -> tuple[Drift, ...]:
    """Each reference of a version that leads to other content than when the version was made, or to none."""
    revision = revision_name(rollout, record.artifact_id)
    changed = ((_change(revision, ref, found[ref.prompt]), ref) for ref in record.references)
    return tuple(
        Drift(change[0], f"promptsFrom.{ref.prompt}: {_what(ref)} {change[1]}", record.artifact_id)
        for change, ref in changed
        if change
    )


def _change(revision: str, ref: FrozenReference, now: Content | NoContent) -> tuple[Reason, str] | None:
    if isinstance(now, NoContent):
        if now.reason is not Reason.REF_NOT_FOUND:
            return Reason.REFERENCE_UNREADABLE, f"cannot be compared with {revision}: {now.message}"
        return (
            Reason.REFERENCE_GONE,
            f"is not there any more; {revision} keeps what it was made of. Put it back",
        )
    if now.digest == ref.digest:
        return None
    if _key_name(now.digest) != _key_name(ref.digest):
        why = f"cannot be compared with {revision}, whose digest was made under another key of the operator"
        return Reason.REFERENCE_UNREADABLE, why
    return (
        Reason.REFERENCE_CHANGED,
        f"was changed after {revision} was made of it, which keeps what it had. Put the content back, or deliver the "
        "new one under another key or name",
    )


def _what(source: PromptSource) -> str:
    return f"key {source.ref.key} of {source.kind} {source.ref.name}"


def _key_name(digest: str) -> str:
    return digest.rpartition(":")[0]


def records_in_force(
    status: RolloutStatus, wanted: str, record: ResolvedReferences | None
) -> list[ResolvedReferences]:
    """What is remembered of references: of the wanted version, and of those that serve without being wanted."""
    serving = {ref.artifact_id for ref in (status.stable, status.candidate) if ref} - {wanted}
    kept = [known for known in status.resolved if known.artifact_id in serving]
    return [*kept, record] if record else kept
