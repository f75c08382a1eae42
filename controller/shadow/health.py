"""A judge is examined before its verdicts may move traffic."""

from __future__ import annotations

import asyncio

from controller.adapters.judges.loading import JudgeHandle
from controller.core.shadow.health import Bar, Failed, Health, LabelledPair, assess
from controller.core.shadow.judgement import JudgeError, Judgement, OverBudgetError


async def check_health(handle: JudgeHandle, bar: Bar | None = None) -> Health:
    """Show the judge its labelled set. A judge that gives no verdicts is not fit, and the result says why."""

    async def examine(pair: LabelledPair) -> tuple[LabelledPair, Judgement | Failed]:
        async with at_once:
            try:
                return pair, await handle.judge.judge(pair.case)
            except JudgeError as error:
                return pair, Failed(str(error), error.transient)
            except OverBudgetError as error:
                return pair, Failed(str(error), transient=True)

    at_once = asyncio.Semaphore(handle.concurrency)
    examined = await asyncio.gather(*(examine(pair) for pair in handle.labelled))
    return assess(handle.judge.artifact_id, handle.sees, examined, bar or Bar())
