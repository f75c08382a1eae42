import re
from enum import StrEnum

import pytest

from controller.api.docgen import docstrings
from controller.api.reasons import ConditionType, Reason, State, Verdict


@pytest.mark.parametrize("enum", [ConditionType, Reason, State, Verdict])
def test_every_member_is_documented_right_below_it(enum: type[StrEnum]) -> None:
    documented = docstrings(enum)
    assert list(documented) == [member.value for member in enum]
    for member, text in documented.items():
        assert text.endswith("."), f"{enum.__name__}.{member} has no sentence"
        assert "\n" not in text, f"{enum.__name__}.{member}: one line is enough"


@pytest.mark.parametrize(("reason", "text"), docstrings(Reason).items())
def test_every_reason_says_where_it_stands(reason: str, text: str) -> None:
    places = "|".join([*(f"{kind}=(True|False|Unknown)" for kind in ConditionType), "lastRollback"])
    assert re.match(
        rf"(({places})(, ({places}))*|In events alone|In messages of refused RolloutActions): ", text
    ), reason


@pytest.mark.parametrize("enum", [ConditionType, Reason, State, Verdict])
def test_values_are_what_kubernetes_takes_as_a_reason(enum: type[StrEnum]) -> None:
    for member in enum:
        assert re.fullmatch("[A-Z][A-Za-z]*", member.value)
        assert member.name == re.sub("(?<=[a-z])(?=[A-Z])", "_", member.value).upper()
