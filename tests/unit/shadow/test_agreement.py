"""How far judge and people say the same."""

from __future__ import annotations

import pytest

from controller.core.shadow.agreement import Agreement
from controller.core.shadow.comparison import Outcome

WIN, TIE, LOSS = Outcome.WIN, Outcome.TIE, Outcome.LOSS


def test_kappa_is_what_cohen_computed() -> None:
    """The worked example of two raters and 50 cases: 20 and 15 alike, 5 and 10 apart; kappa 0.4."""
    said = Agreement.of([(WIN, WIN)] * 20 + [(WIN, LOSS)] * 5 + [(LOSS, WIN)] * 10 + [(LOSS, LOSS)] * 15)
    assert (said.total, said.same) == (50, 35)
    assert said.kappa == pytest.approx(0.4)


def test_who_always_agrees_has_kappa_one() -> None:
    assert Agreement.of([(WIN, WIN), (LOSS, LOSS), (TIE, TIE)]).kappa == pytest.approx(1.0)


def test_where_chance_always_agrees_kappa_is_not_defined() -> None:
    assert Agreement.of([(TIE, TIE)] * 3).kappa is None
    assert Agreement.of([]).kappa is None
