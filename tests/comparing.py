"""A world in virtual time in which answers are compared: what the shadow process tells, without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.api.status import MetricStatus
from controller.core.agents import FIT, MEASURED
from controller.core.shadow.comparison import COMPARISONS, Bin
from controller.core.traffic import ShadowSplit
from tests.talking import TalkingRollout
from tests.virtual import rollout_of

JUDGE = "sha256:0123456789abcdef"

STAGES = [{"weight": w, "minDuration": "1m", "minRequests": 10} for w in ("10%", "50%", "100%")]


@dataclass(frozen=True)
class Ends:
    """How comparisons of one version with stable end.

    Attributes:
        loss: Probability that it loses.
        win: Probability that it wins.
        unjudged: Probability that there is no verdict.
    """

    loss: float = 0.2
    win: float = 0.2
    unjudged: float = 0.0


@dataclass
class ComparingRollout(TalkingRollout):
    """Every sampled request is compared at once; a process tells of it that is scraped like an agent's pod.

    Attributes:
        ends: How comparisons end, by host; stable's are those of its second answers.
        fit: Whether the judge is; None: nobody has looked yet.
        judge_artifact: What it is made of; empty if there is no such judge.
        telling: Whether there is such a process.
        compared: Comparisons so far.
    """

    ends: dict[str, Ends] = field(default_factory=dict)
    fit: bool | None = True
    judge_artifact: str = JUDGE
    telling: bool = True
    unjudged_as: Bin = Bin.JUDGE_ERROR
    compared: int = 0
    splits: list[ShadowSplit] = field(default_factory=list)

    def compare(self, requests: int) -> None:
        table = self.served
        if not self.telling or table is None or table.shadow is None or table.candidate is None:
            return
        self.splits.append(table.shadow)
        noisy = self._binomial(requests, table.shadow.noise_ppm / table.shadow.sampled_ppm)
        self.compared += requests
        self._end(table.candidate.revision, requests)
        self._end(table.stable.revision, noisy)
        self._tell_of_judge(table.candidate.revision)

    def _end(self, revision: str, comparisons: int) -> None:
        ends = self.ends.get(self.revisions[revision].backend.host, Ends())
        judged = 1 - ends.unjudged
        chances = [ends.loss * judged, ends.win * judged, ends.unjudged]
        found = self.random.multinomial(comparisons, [*chances, 1 - sum(chances)])
        counts = dict(zip((Bin.LOSS, Bin.WIN, self.unjudged_as, Bin.TIE), map(int, found), strict=True))
        self.tell(revision, counts)

    def tell(self, revision: str, counts: Mapping[Bin, int]) -> None:
        """So many comparisons of the revision ended so; the counters of all ends are there from the first on."""
        for end in Bin:
            self._report(COMPARISONS, counts.get(end, 0), self._whose(revision) | {"bin": end.value})

    def _tell_of_judge(self, revision: str) -> None:
        if self.fit is None:
            return
        whose = self._whose(revision) | {"judge": "default", "artifact": self.judge_artifact}
        self._set(FIT, int(self.fit), whose)
        self._set(MEASURED, 1, whose | {"measure": "accuracy"})
        self._set(MEASURED, int(self.fit), whose | {"measure": "injections"})

    def _whose(self, revision: str) -> dict[str, str]:
        where = {"job": "shadow", "instance": "shadow-0", "namespace": "system"}
        return where | {"rollout": self.rollout.metadata.key, "revision": revision}

    def _set(self, name: str, value: int, labels: dict[str, str]) -> None:
        self.pod_counters[tuple({"__name__": name, **labels}.items())] = value


def shadowing(
    shadow: Mapping[str, Any] | None = None,
    *,
    analysis: Mapping[str, Any] | None = None,
    stages: list[dict[str, Any]] = STAGES,
    **given: Any,
) -> ComparingRollout:
    """A world on its way to a second version, which is in the shadow: a minute at least, of 100 comparisons."""
    spec = {"fraction": "20%", "minDuration": "1m", "clustering": 1, **(shadow or {})}
    how = {"interval": "15s", "clustering": 1, "metrics": [{"name": "errors"}], **(analysis or {})}
    world = ComparingRollout(rollout_of(shadow=spec, analysis=how, stages=stages), **given)
    world.settle()
    world.live(60)
    world.want("http://v2")
    world.settle()
    return world


def metric(world: ComparingRollout) -> MetricStatus:
    """What the metric says."""
    return next(each for each in world.rollout.status.analysis if each.name == "shadow")
