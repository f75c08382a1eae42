"""The first stage."""

from __future__ import annotations

from dataclasses import replace

from controller.api.reasons import Reason
from controller.api.status import Evidence, RolloutStatus, StageStatus
from controller.core.images import freeze
from controller.core.outcome import Outcome, Report, View
from controller.core.stages import comparisons, general_weight_ppm, title, watch_name


def begin(view: View) -> Outcome | None:
    """The candidate is accepted and served nobody yet -> it enters the first stage."""
    if view.status.stage is not None:
        return None
    outcome = enter(view, 0)
    frozen = freeze(view.candidate, view.snapshot.candidate_endpoints)
    return replace(outcome, status=outcome.status.model_copy(update={"candidate": frozen}))


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
            "guardrails": [],
            "verdict": None,
            "evidence": _for_next_stage(view, entered),
        }
    )
    text = f"{view.candidate.revision} enters stage {index + 1} of {len(stages)}: {entered.title}"
    return Outcome(status, progressing=Report("True", Reason.STAGE_STARTED, text))


def _for_next_stage(view: View, entered: StageStatus) -> Evidence | None:
    """What has a baseline in the next stage forgets the last one's; what has none, as in the bake, keeps it."""
    evidence = view.status.evidence
    if evidence is None:
        return None
    compared = {
        watch_name(metric.name, comparison)
        for comparison in comparisons(view.status.model_copy(update={"stage": entered}), view.snapshot.stages)
        if comparison.baseline is not None
        for metric in view.snapshot.analysis.metrics
    }
    kept = [m.model_copy(update={"reference": []}) if m.name in compared else m for m in evidence.metrics]
    return evidence.model_copy(update={"metrics": kept, "splits": []})
