"""The first stage."""

from __future__ import annotations

from controller.api.reasons import Reason
from controller.api.status import Evidence, RolloutStatus, StageStatus
from controller.core.outcome import Outcome, Report, View
from controller.core.stages import arms, general_weight_ppm, title


def begin(view: View) -> Outcome | None:
    """The candidate is accepted and served nobody yet -> it enters the first stage."""
    return None if view.status.stage is not None else enter(view, 0)


def enter(view: View, index: int) -> Outcome:
    """The candidate enters a stage: counts start anew, the tests go on."""
    stages = view.snapshot.stages
    stage = stages[index]
    entered = StageStatus(
        index=index, name=stage.name, title=title(stage), weight=stage.weight_ppm, entered_at=view.now
    )
    status: RolloutStatus = view.status.model_copy(
        update={
            "stage": entered,
            "weight": general_weight_ppm(stages, index),
            "analysis": [],
            "verdict": None,
            "evidence": _for_next_stage(view, entered),
        }
    )
    text = f"{view.candidate.revision} enters stage {index + 1} of {len(stages)}: {entered.title}"
    return Outcome(status, progressing=Report("True", Reason.STAGE_STARTED, text))


def _for_next_stage(view: View, entered: StageStatus) -> Evidence | None:
    """A stage with a baseline of its own forgets the last one's; the bake, which has none, keeps it."""
    evidence = view.status.evidence
    compared = arms(view.status.model_copy(update={"stage": entered}), view.snapshot.stages)
    if evidence is None or compared is None or compared.baseline is None:
        return evidence
    fresh = [metric.model_copy(update={"reference": []}) for metric in evidence.metrics]
    return evidence.model_copy(update={"metrics": fresh})
