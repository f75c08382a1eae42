"""References become content once; what is kept of it, and what is said when it is no longer there."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.agent import Agent, KeyRef
from controller.api.reasons import Reason
from controller.core.artifact import artifact_id, content
from controller.core.references import (
    Content,
    Found,
    NoContent,
    Resolved,
    SecretKey,
    drift_of,
    resolve,
    secret_content,
    text_content,
)
from controller.core.snapshot import Problem

KEY, OTHER_KEY = SecretKey(b"k" * 32), SecretKey(b"o" * 32)
REF = KeyRef(name="prompts", key="system-v1")
CONFIG_MAP = {"configMapKeyRef": {"name": "prompts", "key": "system-v1"}}
SECRET = {"secretKeyRef": {"name": "prompts", "key": "system-v1"}}
MISSING = NoContent("there is no ConfigMap prompts in namespace shop; create it or correct the name")


def agent(prompts: dict[str, str] | None = None, **prompts_from: Any) -> Agent:
    return Agent.model_validate(
        {"code": {"url": "http://v1"}, "prompts": prompts or {}, "promptsFrom": prompts_from}
    )


def secret(text: str, key: SecretKey = KEY, namespace: str = "shop", ref: KeyRef = REF) -> Content:
    return secret_content(key, namespace, ref, text.encode())


def resolved(agent: Agent, **found: Content | NoContent) -> Resolved:
    result = resolve(agent, found)
    assert isinstance(result, Resolved)
    return result


def refused(agent: Agent, found: Found) -> Problem:
    result = resolve(agent, found)
    assert isinstance(result, Problem)
    return result


def test_a_prompt_from_a_config_map_is_the_same_artifact_as_the_same_text_in_the_spec() -> None:
    inline = agent({"greeting": "Hello.", "system": "You help."})
    referring = resolved(agent({"greeting": "Hello."}, system=CONFIG_MAP), system=text_content("You help."))
    assert referring.record.artifact_id == artifact_id(inline) == artifact_id(referring.agent)
    assert content(referring.agent) == content(inline)


def test_another_text_another_prompt_and_another_key_of_the_same_text_are_told_apart_by_content_alone() -> (
    None
):
    def identify(text: str, **source: Any) -> str:
        (prompt,) = source
        return resolved(agent(**source), **{prompt: text_content(text)}).record.artifact_id

    moved = {"configMapKeyRef": {"name": "elsewhere", "key": "v2"}}
    assert identify("a", system=CONFIG_MAP) == identify("a", system=moved)
    assert identify("a", system=CONFIG_MAP) != identify("b", system=CONFIG_MAP)
    assert identify("a", system=CONFIG_MAP) != identify("a", task=CONFIG_MAP)


def test_of_a_secret_the_reference_and_a_digest_are_kept_and_nothing_of_the_content() -> None:
    found = resolved(agent(system=SECRET), system=secret("hunter2"))
    assert content(found.agent)["promptsFrom"] == {
        "system": {**SECRET, "digest": KEY.digest("shop", REF, b"hunter2")}
    }
    assert content(found.agent)["prompts"] == {}
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "other",
    [
        secret("hunter3"),
        secret("hunter2", OTHER_KEY),
        secret("hunter2", namespace="bank"),
        secret("hunter2", ref=KeyRef(name="prompts", key="system-v2")),
    ],
    ids=["content", "key of the operator", "namespace", "key of the Secret"],
)
def test_what_changes_the_digest_of_a_secret_changes_the_artifact(other: Content) -> None:
    one = resolved(agent(system=SECRET), system=secret("hunter2"))
    assert one.record.artifact_id != resolved(agent(system=SECRET), system=other).record.artifact_id


def test_equal_secrets_in_two_places_do_not_show_that_they_are_equal() -> None:
    digests = [secret("hunter2", ref=KeyRef(name=name, key="k")).digest for name in ("a", "b")]
    assert len({digest.rpartition(":")[2] for digest in digests}) == 2


def test_the_key_is_neither_shown_nor_short() -> None:
    assert "kkk" not in repr(KEY)
    with pytest.raises(ValueError, match="has 31 bytes, and at least 32 are needed"):
        SecretKey(b"k" * 31)


def test_the_first_reference_that_leads_nowhere_is_named_with_the_way_out() -> None:
    problem = refused(agent(task=SECRET, system=CONFIG_MAP), {"task": secret("x"), "system": MISSING})
    assert problem == Problem(
        Reason.REF_NOT_FOUND, f"spec.agent.promptsFrom.system.configMapKeyRef: {MISSING.message}"
    )


@pytest.mark.parametrize("found", [text_content(" \n"), secret("")], ids=["ConfigMap", "Secret"])
def test_an_empty_prompt_is_invalid_wherever_it_lies(found: Content) -> None:
    problem = refused(agent(system=CONFIG_MAP if found.text is not None else SECRET), {"system": found})
    assert problem.reason is Reason.INVALID
    assert problem.message.endswith("is empty; write the prompt or remove its name")


@pytest.mark.parametrize(("size", "fits"), [(65_536, True), (65_537, False)])
def test_prompts_together_are_limited_after_they_were_resolved(size: int, fits: bool) -> None:
    result = resolve(agent({"a": "x" * 65_536}, system=CONFIG_MAP), {"system": text_content("y" * size)})
    assert isinstance(result, Resolved) is fits
    if isinstance(result, Problem):
        assert result.reason is Reason.INVALID
        assert "prompts together have 131073 bytes, more than 131072 (128 KiB)" in result.message


def test_an_agent_that_cannot_be_hashed_is_invalid_also_with_references() -> None:
    large = agent(system=CONFIG_MAP).model_dump(by_alias=True) | {
        "model": {"provider": "a", "name": "b", "parameters": {"seed": 2**60}}
    }
    problem = refused(Agent.model_validate(large), {"system": text_content("You help.")})
    assert problem.reason is Reason.INVALID
    assert problem.message.startswith("spec.agent cannot be hashed")


def test_what_has_not_changed_has_not_drifted() -> None:
    record = resolved(agent(system=CONFIG_MAP), system=text_content("You help.")).record
    assert drift_of("agent", record, {"system": text_content("You help.")}) == ()


@pytest.mark.parametrize(
    ("source", "frozen", "now", "reason", "says"),
    [
        (
            CONFIG_MAP,
            text_content("a"),
            text_content("b"),
            Reason.REFERENCE_CHANGED,
            "was changed after agent-",
        ),
        (CONFIG_MAP, text_content("a"), MISSING, Reason.REFERENCE_GONE, "is not there any more"),
        (SECRET, secret("a"), secret("b"), Reason.REFERENCE_CHANGED, "under another key or name"),
        (
            SECRET,
            secret("a"),
            secret("a", OTHER_KEY),
            Reason.REFERENCE_UNREADABLE,
            "another key of the operator",
        ),
        (
            CONFIG_MAP,
            text_content("a"),
            NoContent("the operator cannot read it: no", Reason.REFERENCE_UNREADABLE),
            Reason.REFERENCE_UNREADABLE,
            "cannot read it: no",
        ),
    ],
    ids=["changed", "gone", "secret changed", "key changed", "unreadable"],
)
def test_drift_names_field_object_and_key_and_what_happened(
    source: Any, frozen: Content, now: Content | NoContent, reason: Reason, says: str
) -> None:
    record = resolved(agent(system=source), system=frozen).record
    (drift,) = drift_of("agent", record, {"system": now})
    kind = "ConfigMap" if source is CONFIG_MAP else "Secret"
    assert (drift.reason, drift.artifact_id) == (reason, record.artifact_id)
    assert drift.message.startswith(f"promptsFrom.system: key system-v1 of {kind} prompts ")
    assert says in drift.message
