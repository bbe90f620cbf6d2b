"""Which placements of a front the timings' own error cannot tell apart from a recommended one.

As for the splits of two devices (`paretosim.resolution`): blocks that run on devices with the same timing in both
placements have the same error in both, so only the rest counts. A difference in latency is known to ± Σ e · |ΔT|, T
being all time that a placement has on devices with one timing. A difference in period is that of one stage each: blocks
that both run on one device cancel, the others add up.
"""

from __future__ import annotations

import math

from paretosim.placement.placing import Placement
from paretosim.placement.rows import PlacementRow
from paretosim.placement.setting import PlacementSetting
from paretosim.resolution import weights


def indistinguishable(
    placement: Placement, chosen: PlacementRow | None, objective: str
) -> tuple[PlacementRow, ...] | None:
    """Rows of the front whose `latency` or `throughput` may equal that of `chosen` within the timings' error.

    Returns
    -------
    Rows without `chosen` itself, in order; None where an error is unknown or there is no such row.
    """
    if placement.profile_error is None or chosen is None:
        return None
    return tuple(
        row for row in placement.rows if row is not chosen and _alike(placement.setting, chosen, row, objective)
    )


def _alike(setting: PlacementSetting, a: PlacementRow, b: PlacementRow, objective: str) -> bool:
    unloaded_doubt_s, slowest_doubt_s = _unloaded_doubt_s(setting, a, b), _period_doubt_s(setting, a, b)
    doubt_s = max(
        of_unloaded * unloaded_doubt_s + of_slowest * slowest_doubt_s
        for of_unloaded, of_slowest in (weights(setting.mode, row, objective) for row in (a, b))
    )
    difference = a.latency_s - b.latency_s if objective == "latency" else a.period_s - b.period_s
    return abs(difference) <= doubt_s


def _error(setting: PlacementSetting, device: int) -> float:
    error = setting.timings[device].error
    assert error is not None  # the caller has seen to it
    return error.relative


def _stages(row: PlacementRow) -> list[tuple[int, range]]:
    """Device (from 0) and blocks of each stage."""
    return [
        (position - 1, range(stage.first, stage.last))
        for position, stage in zip(row.positions, row.plan.stages, strict=True)
    ]


def _unloaded_doubt_s(setting: PlacementSetting, a: PlacementRow, b: PlacementRow) -> float:
    doubt_s = 0.0
    for device, timing in enumerate(setting.timings):
        if timing in setting.timings[:device]:
            continue
        totals = [
            math.fsum(
                math.fsum(setting.block_s[place][blocks.start : blocks.stop])
                for place, blocks in _stages(row)
                if setting.timings[place] == timing
            )
            for row in (a, b)
        ]
        doubt_s += _error(setting, device) * abs(totals[0] - totals[1])
    return doubt_s


def _period_doubt_s(setting: PlacementSetting, a: PlacementRow, b: PlacementRow) -> float:
    binding: list[dict[int, set[int]]] = []  # blocks of the stage that binds, by its device
    for row in (a, b):
        number = row.bottleneck.removeprefix("stage")
        stage = _stages(row)[int(number) - 1] if number.isdecimal() else None
        binding.append({} if stage is None else {stage[0]: set(stage[1])})
    return math.fsum(
        _error(setting, device)
        * math.fsum(
            setting.block_s[device][block] for block in binding[0].get(device, set()) ^ binding[1].get(device, set())
        )
        for device in {*binding[0], *binding[1]}
    )
