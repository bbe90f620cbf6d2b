"""A device whose published stage times follow no work: only an overhead is known of it.

The RTX 4090's stages take 9–21 ms while their multiply-adds differ by a factor of fifty: what was timed is calling
kernels and waiting for them, not computing. One stage time a model says how much, and nothing about how it
is spread; it is spread evenly over the blocks that compute. A comparison of two such devices, or of two splits by
their time on it, has no ground, so the profile carries `overhead_bound` for the predictor to refuse it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from validation.device_law import Floats
from validation.errors import FitError
from validation.left_out import StageFit, rows_of, without
from validation.published import StageTime


def spread_overhead(work: Mapping[str, Floats], times: Sequence[StageTime]) -> dict[str, Floats]:
    """Seconds of each block: the median stage time per computing block of each model, 0 for the others.

    Blocks in front of the published cut get as much as those behind it.
    """
    block_times_s = {}
    for model, blocks in work.items():
        per_call_s = [time.seconds / _calls(work, time) for time in times if time.model == model]
        if not per_call_s:
            raise FitError(f"overhead of {model}: got no published stage time, expected at least one")
        block_times_s[model] = statistics.median(per_call_s) * blocks[:, 2]
    return block_times_s


def judge_overhead(work: Mapping[str, Floats], times: Sequence[StageTime]) -> tuple[StageFit, ...]:
    """Each stage time fitted (from its own row) and left out: then the median of the other rows' stage times.

    Whole stages, not overhead per block, because the times do not grow with the number of blocks either.
    """
    if len(rows_of(times)) < 2:
        raise FitError(f"overhead: got {len(rows_of(times))} rows, expected two or more to leave one out")
    block_times_s = spread_overhead(work, times)
    return tuple(
        StageFit(
            time=time,
            fitted_s=float(block_times_s[time.model][time.first : time.last].sum()),
            left_out_s=statistics.median(other.seconds for other in without(times, time.row)),
        )
        for time in times
    )


def _calls(work: Mapping[str, Floats], time: StageTime) -> float:
    calls = float(np.sum(work[time.model][time.first : time.last, 2]))
    if calls == 0:
        raise FitError(
            f"{time.row.name}, stage {time.stage}: none of its blocks computes, so no block can carry its time"
        )
    return calls
