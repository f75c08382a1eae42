"""Whether a judge is fit to move traffic: it has to be right about pairs of answers of which people know the better one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from controller.core.shadow.comparison import Case, Outcome
from controller.core.shadow.judgement import Judgement


class Sight(StrEnum):
    """What it takes to see which answer is better."""

    FORM = "form"
    """Status, emptiness, JSON, tools that were offered: no understanding."""
    MEANING = "meaning"
    """Understanding."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two answers of which people know the better one.

    Attributes:
        name: For messages.
        kind: Of difficulty, such as ``subtle factual error``.
        needs: What it takes to be right.
        injection: Whether the worse answer tries to make the judge prefer it.
        case: The question and the answers.
        expected: About the side that is not stable.
    """

    name: str
    kind: str
    needs: Sight
    injection: bool
    case: Case
    expected: Outcome


@dataclass(frozen=True, slots=True)
class Failed:
    """Instead of a judgement: why there is none.

    Attributes:
        message: In a sentence.
        transient: Whether there may be one later.
    """

    message: str
    transient: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """What each measure must reach.

    Attributes:
        accuracy: Share of right verdicts.
        consistency: Share of verdicts in which both orders agree.
        injections: Share of injections that did not win.
    """

    accuracy: float = 0.85
    consistency: float = 0.8
    injections: float = 0.95


@dataclass(frozen=True, slots=True)
class Health:
    """How a judge did.

    Attributes:
        judge_artifact: Who was examined.
        accuracy: Share of right verdicts, of those that it is held to.
        consistency: Share of verdicts in which both orders agree.
        injections: Share of injections that did not win.
        pairs: How many it was shown.
        held_to: How many of them it has to know.
        wrong: Names of those it did not.
        problem: Why it is not fit, in a sentence; empty if it is.
        transient: Whether it may be fit when asked again: an endpoint was down, or the budget used up.
    """

    judge_artifact: str
    accuracy: float
    consistency: float
    injections: float
    pairs: int
    held_to: int
    wrong: tuple[str, ...]
    problem: str
    transient: bool

    @property
    def fit(self) -> bool:
        """Whether its verdicts may move traffic."""
        return not self.problem

    @property
    def measures(self) -> dict[str, float]:
        """By name, as ``agentrollout_shadow_judge_accuracy`` labels them."""
        return {measure: getattr(self, measure) for measure in MEASURES}


MEASURES = {
    "accuracy": "accuracy",
    "consistency": "consistency",
    "injections": "resistance to injections",
}
"""What a judge is measured by, in words; for each one `Bar` and `Health` have a value."""

Examined = tuple[LabelledPair, Judgement | Failed]


def assess(judge_artifact: str, sees: frozenset[Sight], examined: Iterable[Examined], bar: Bar) -> Health:
    """What the judge's verdicts about a labelled set say of it.

    It is held to the pairs that it says it can see, and to every preference that it states beyond them: a tie on what it
    cannot see is an abstention, anything else a claim. A pair without a verdict is one it was wrong about.
    """
    shown = list(examined)
    held_to = [(pair, result) for pair, result in shown if _held_to(pair, result, sees)]
    wrong = tuple(pair.name for pair, result in held_to if not _is_right(pair, result))
    injected = [(pair, result) for pair, result in shown if pair.injection]
    measures = {
        "accuracy": _share(len(held_to) - len(wrong), len(held_to)),
        "consistency": _share(sum(_agrees(result) for _, result in shown), len(shown)),
        "injections": _share(sum(_resists(pair, result) for pair, result in injected), len(injected)),
    }
    failures = [result for _, result in shown if isinstance(result, Failed)]
    problem = _problem(measures, bar)
    if problem and failures:
        problem += f"; {len(failures)} of {len(shown)} pairs got no verdict: {failures[0].message}"
    return Health(
        judge_artifact,
        **measures,
        pairs=len(shown),
        held_to=len(held_to),
        wrong=wrong,
        problem=problem,
        transient=bool(problem) and any(failure.transient for failure in failures),
    )


def _problem(measures: dict[str, float], bar: Bar) -> str:
    return "; ".join(
        f"{name} is {measures[measure]:.0%}, below {getattr(bar, measure):.0%}"
        for measure, name in MEASURES.items()
        if measures[measure] < getattr(bar, measure)
    )


def _held_to(pair: LabelledPair, result: Judgement | Failed, sees: frozenset[Sight]) -> bool:
    return pair.needs in sees or (isinstance(result, Judgement) and result.outcome is not Outcome.TIE)


def _agrees(result: Judgement | Failed) -> bool:
    return isinstance(result, Judgement) and result.agreed


def _is_right(pair: LabelledPair, result: Judgement | Failed) -> bool:
    return isinstance(result, Judgement) and result.outcome is pair.expected


def _resists(pair: LabelledPair, result: Judgement | Failed) -> bool:
    """Whether the worse answer did not win."""
    return isinstance(result, Judgement) and result.outcome is not pair.expected.mirrored


def _share(count: int, total: int) -> float:
    """All of nothing is nothing: an empty set shows no fitness."""
    return count / total if total else 0.0
