"""How long a cell takes at least: stage times of profiles, bytes over rates, delays, and how its mode feeds. Pure.

It decides what is skipped, and says how long a sweep may take. It is nobody's prediction of latency or throughput:
nothing measured is ever compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwrun.feeding import (
    FEWEST_OPENING_ROUNDS,
    FIRST_WINDOW,
    MAX_WINDOW,
    PACE,
    WARMUP_BATCHES,
    fed_batches,
    saturating_batches,
)
from hwrun.planned_cell import PlannedCell
from paretosim.block import Model
from paretosim.mode import Mode
from paretosim.units import format_duration


def time_floor_s(
    cell: PlannedCell,
    model: Model,
    stages_s: Sequence[float] | None,
    batches: int,
    *,
    slowed_from_behind: bool = False,
) -> float:
    """Seconds that the cell takes at least: the batch that is compared, and those that are fed.

    Parameters
    ----------
    stages_s : time of each stage, 0 for an empty one; None where nothing is known of them.
    batches : measured batches a sub-run.
    slowed_from_behind : as `feed` takes it.
    """
    alone_s, slowest_s = rhythm_s(cell, model, stages_s)
    opening = smaller_than_a_round_trip(cell, model)
    return alone_s + feeding_s(
        cell.mode, alone_s, slowest_s, batches, slowed_from_behind=slowed_from_behind, opening=opening
    )


def smaller_than_a_round_trip(cell: PlannedCell, model: Model) -> bool:
    """Whether a batch is less than some shaped path of the cell holds in a round trip.

    TCP's window, which has grown to a batch or two by then, lets several at once out in parts only: `feed` is to open
    it. Where a batch is more, the path is full with what one has opened.
    """
    return any(
        size * 8 < crossing.link.rate_bps * crossing.link.rtt_s
        for size, crossing in zip(_crossed_bytes(cell, model), cell.crossings(), strict=True)
        if crossing.link is not None
    )


def feeding_s(
    mode: Mode,
    alone_s: float,
    slowest_s: float,
    batches: int,
    *,
    slowed_from_behind: bool = False,
    opening: bool = False,
) -> float:
    """Seconds that `feed` takes with a line that a lone batch crosses in `alone_s`, one every `slowest_s` at best.

    >>> feeding_s(Mode.named("single"), 1.0, 0.5, 4)  # two to warm up and four that are measured
    6.0
    """
    if mode.name != "paced":
        window = mode.batches if mode.name == "burst" else mode.window or 1
        assert window is not None  # Mode has checked it
        warmup = WARMUP_BATCHES if mode.name == "burst" else 0
        followers = window - 1 if slowed_from_behind and mode.name == "closed" else 0
        count = fed_batches(mode, batches) - warmup + followers
        rounds_s = _opening_s(window, alone_s, slowest_s) if opening and mode.name != "single" else 0.0
        return warmup * alone_s + rounds_s + _last_return_s(count, window, alone_s, slowest_s)
    saturated_s, window = 0.0, FIRST_WINDOW
    while window <= MAX_WINDOW:
        followers = window - 1 if slowed_from_behind else 0
        count = WARMUP_BATCHES + saturating_batches(window, batches) + followers
        saturated_s += _last_return_s(count, window, alone_s, slowest_s)
        saturated_s += _opening_s(window, alone_s, slowest_s) if opening else 0.0
        if (window - 1) * max(slowest_s, alone_s / window) >= alone_s:
            break
        window *= 2
    return saturated_s + alone_s + (WARMUP_BATCHES + batches - 1) * slowest_s / PACE


def _opening_s(window: int, alone_s: float, slowest_s: float) -> float:
    return FEWEST_OPENING_ROUNDS * _last_return_s(window, window, alone_s, slowest_s)


def _last_return_s(count: int, window: int, alone_s: float, slowest_s: float) -> float:
    """When the last of `count` batches is back that are fed into an empty line, a window of them under way.

    A batch leaves when the slowest station is through with it, and a line's crossing after the one a window before it
    left: c[n] = max(c[n−1] + t*, c[n−w] + L₀).
    """
    if alone_s <= window * slowest_s:
        return alone_s + (count - 1) * slowest_s
    rounds, left = divmod(count - 1, window)
    return (rounds + 1) * alone_s + left * slowest_s


def rhythm_s(cell: PlannedCell, model: Model, stages_s: Sequence[float] | None) -> tuple[float, float]:
    """Seconds of a lone batch, and of the slowest host or link, by stage times, bytes over rate and delays alone.

    Parameters
    ----------
    stages_s : time of each stage, 0 for an empty one; None where nothing is known of them.
    """
    busy_s: dict[str, float] = {}  # stages on one host take turns
    for host, stage_s in zip(cell.stage_hosts, stages_s or (), strict=False):
        busy_s[host] = busy_s.get(host, 0.0) + stage_s
    link_s: list[float] = []
    delay_s = 0.0
    for size, crossing in zip(_crossed_bytes(cell, model), cell.crossings(), strict=True):
        if crossing.link is not None:
            link_s.append(size * 8 / crossing.link.rate_bps)
            delay_s += crossing.link.one_way_delay_s
    return sum(busy_s.values()) + sum(link_s) + delay_s, max((*busy_s.values(), *link_s), default=0.0)


def _crossed_bytes(cell: PlannedCell, model: Model) -> list[int]:
    """Bytes of a batch over each of the cell's crossings."""
    cuts = [size * cell.plan.batch for size in model.cut_bytes()]
    hosts = cell.stage_hosts
    sizes = [cuts[stage.last] for stage, a, b in zip(cell.stages, hosts, hosts[1:], strict=False) if a != b]
    if cell.source == "sink" and cell.sink_host != hosts[0]:
        sizes.insert(0, cuts[0])
    if hosts[-1] != cell.sink_host:
        sizes.append(cuts[-1])
    return sizes


def too_long(floor_s: float, limit_s: float) -> tuple[str, str] | None:
    """Reason and remedy where a cell cannot be done in `limit_s`, else None."""
    if floor_s <= limit_s:
        return None
    return (
        f"its bytes, delays and stage times alone take {format_duration(round(floor_s, 1))},"
        f" more than --max-cell-time {format_duration(limit_s)}",
        f"resume with --max-cell-time {format_duration(float(-(-floor_s // 10) * 10))} or more, or leave the split out",
    )
