"""What is asked of the metric source about comparisons."""

from __future__ import annotations

from controller.core.agents import FIT, MEASURED, shadow_definition
from controller.core.catalogue import CounterTerm
from controller.core.shadow.comparison import COMPARISONS
from controller.reconcilers.lookback import Lookback
from controller.reconcilers.questions import report_questions
from tests.comparing import shadowing


def test_comparisons_are_those_that_were_judged_of_which_losses_are_bad() -> None:
    found = shadow_definition("shop/agent")
    assert found.total == tuple(CounterTerm(COMPARISONS, (("bin", each),)) for each in ("win", "tie", "loss"))
    assert found.bad == (CounterTerm(COMPARISONS, (("bin", "loss"),)),)
    assert found.scope == (("rollout", "shop/agent"),)
    assert found.names == {COMPARISONS, FIT, MEASURED}


def test_in_the_shadow_nothing_but_comparisons_of_both_versions_is_asked_of_others() -> None:
    metrics = [{"name": "errors"}, {"name": "toolErrors"}]
    world = shadowing({"minDuration": "1h"}, analysis={"metrics": metrics})
    world.live(60)
    status = world.rollout.status
    assert status.stable is not None
    assert status.candidate is not None
    (question,) = report_questions(world.snapshot(), world.now)
    assert question.label == "revision"
    assert question.names == {COMPARISONS, FIT, MEASURED}
    assert question.values == {status.stable.revision, status.candidate.revision}
    lookback = Lookback()
    lookback.note(world.rollout.metadata.key, world.read().reports)
    assert report_questions(world.snapshot(), world.now, lookback) == (question,), (
        "of the last minutes, always"
    )


def test_afterwards_they_are_only_asked_where_they_go_on() -> None:
    for also, asked in ((True, 1), (False, 0)):
        world = shadowing({"alsoInStages": also})
        while world.rollout.status.is_in_shadow:
            world.live(15)
        assert len(report_questions(world.snapshot(), world.now)) == asked
