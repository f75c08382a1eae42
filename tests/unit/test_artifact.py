import hashlib
import json
import unicodedata
from typing import Any

import pytest

from controller.api.agent import Agent
from controller.core.artifact import artifact_id, revision_name

AGENT: dict[str, Any] = {
    "code": {"url": "http://agent-v1.example:8080"},
    "prompts": {"system": "Be kind – überaus. 🙂\n", "a": "<&>"},
    "model": {
        "provider": "openai",
        "name": "gpt-x",
        "parameters": {"temperature": 0.2, "max": 1000.0, "stop": None},
    },
    "dependencies": {"tools/refund": "3.2.0", "lockfile": "sha256:9f"},
}

# Any RFC 8785 tool prints this text for AGENT (fields that are not set are left out, empty maps are not), and
# `printf %s 'the text' | sha256sum` its ID. Neither may ever change: IDs are stored, and compared between releases.
CANONICAL = (
    '{"code":{"url":"http://agent-v1.example:8080"},'
    '"dependencies":{"lockfile":"sha256:9f","tools/refund":"3.2.0"},'
    '"model":{"name":"gpt-x","parameters":{"max":1000,"stop":null,"temperature":0.2},"provider":"openai"},'
    '"prompts":{"a":"<&>","system":"Be kind – überaus. 🙂\\n"}}'
)
GOLDEN = "sha256:443180fc3557ae4a12c47e9557670708e5e95a3194700a2a2fa7373272d34486"


def identify(**changes: Any) -> str:
    return artifact_id(Agent.model_validate(AGENT | changes))


def test_the_id_is_the_same_for_ever_and_on_every_machine() -> None:
    assert identify() == GOLDEN


def test_it_is_the_hash_of_the_canonical_json() -> None:
    assert json.loads(CANONICAL) == AGENT
    assert identify() == f"sha256:{hashlib.sha256(CANONICAL.encode()).hexdigest()}"


def test_an_empty_map_is_the_same_as_none_at_all() -> None:
    code, model = {"url": "http://a"}, {"provider": "openai", "name": "gpt-x"}
    without = {"code": code, "model": model}
    with_empty = {"code": code, "model": model | {"parameters": {}}, "prompts": {}, "dependencies": {}}
    assert artifact_id(Agent.model_validate(without)) == artifact_id(Agent.model_validate(with_empty))


def test_the_protocol_that_is_meant_anyway_changes_no_id_and_another_does() -> None:
    code = AGENT["code"]
    assert identify(code=code | {"protocol": "HTTP1"}) == GOLDEN
    assert identify(code=code | {"protocol": "HTTP2"}) != GOLDEN


def test_a_model_without_settings_is_not_the_same_as_no_model() -> None:
    assert identify(model=None) != identify(model={"provider": "openai", "name": "gpt-x"})


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (0.2, 0.20), (1000, 1e3), (0, -0.0), (2**53 - 1, float(2**53 - 1))],
)
def test_a_number_is_its_value_however_it_is_written(one: float, other: float) -> None:
    def with_number(number: float) -> str:
        return identify(model={"provider": "a", "name": "b", "parameters": {"n": number}})

    assert with_number(one) == with_number(other)


@pytest.mark.parametrize(
    ("one", "other"), [(1, "1"), (1, True), (0, False), (None, ""), ([], {}), ([1, 2], [2, 1])]
)
def test_values_of_different_kinds_are_different(one: Any, other: Any) -> None:
    def with_value(value: Any) -> str:
        return identify(model={"provider": "a", "name": "b", "parameters": {"v": value}})

    assert with_value(one) != with_value(other)


def test_letters_are_not_normalised_as_models_do_not_either() -> None:
    composed, decomposed = (unicodedata.normalize(form, "überaus") for form in ("NFC", "NFD"))
    assert identify(prompts={"system": composed}) != identify(prompts={"system": decomposed})


@pytest.mark.parametrize("number", [2**60, -(2**60), 2**53])
def test_a_number_that_json_cannot_hold_is_refused_with_the_way_out(number: int) -> None:
    with pytest.raises(ValueError, match=r"^spec\.agent cannot be hashed: .+; write large numbers as text$"):
        identify(model={"provider": "a", "name": "b", "parameters": {"seed": number}})


def test_a_large_number_as_text_is_fine() -> None:
    assert identify(model={"provider": "a", "name": "b", "parameters": {"seed": str(2**60)}})


def test_a_revision_is_named_after_rollout_and_id() -> None:
    assert revision_name("support-agent", "sha256:3f9a1c2b7d" + "0" * 54) == "support-agent-3f9a1c2b7d"


def test_the_longest_revision_name_is_a_name_for_kubernetes() -> None:
    assert len(revision_name("x" * 52, identify())) == 63
