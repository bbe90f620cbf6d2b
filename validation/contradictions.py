"""Rows of the published tables that contradict others, found by arithmetic and told with it.

Three kinds cannot be true whatever the device: a longer run of blocks published as faster than a shorter one that
it contains, a stage published as slower than the whole model, and a transfer published as faster than a
1 Gbit/s wire carries its bytes. Two kinds are matters of degree: totals of one model that differ, and a stage time
far from what the fit of all other rows says. Two stage times contradict each other only where they are further
apart than the noise of both, 3 % each.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from paretosim.block import Model
from validation.device_law import RELATIVE_NOISE, Floats
from validation.left_out import JudgedFit, StageFit
from validation.published import PUBLISHED_BATCH, PublishedRow, StageTime

Kind = Literal["longer_is_faster", "exceeds_total", "beats_the_wire", "totals_differ", "out_of_line"]

# IV-A of the paper: a wired Ethernet LAN; both boards and the server have 1 Gbit/s ports.
WIRE_RATE_BPS = 1e9
# Two published times disagree where they are further apart than this: the noise of both.
_TOLERANCE = 2 * RELATIVE_NOISE
_DEVIATIONS = 3.0
_DEVIATION_OF_MEDIAN = 1.4826  # standard deviation of a normal distribution whose median absolute value is 1


@dataclass(frozen=True)
class Contradiction:
    """Rows that do not go together, and the arithmetic that says so."""

    kind: Kind
    rows: tuple[PublishedRow, ...]
    arithmetic: str

    @property
    def model(self) -> str:
        """The model that the rows are of."""
        return self.rows[0].model


def find_contradictions(
    models: Mapping[str, Model],
    work: Mapping[str, Floats],
    rows: Sequence[PublishedRow],
    times: Sequence[StageTime],
    judged: JudgedFit,
) -> tuple[Contradiction, ...]:
    """All contradictions among `rows`, whose stage times on the fitted device are `times`."""
    return (
        *longer_is_faster(times),
        *exceeds_total(rows, times),
        *beats_the_wire(models, rows),
        *totals_differ(rows),
        *out_of_line(work, judged),
    )


def longer_is_faster(times: Sequence[StageTime]) -> tuple[Contradiction, ...]:
    """Pairs where more blocks of a model take less time on the same device, beyond the noise of both."""
    found = []
    for pair in combinations(times, 2):
        longer, shorter = sorted(pair, key=lambda time: time.last - time.first, reverse=True)
        is_inside = longer.model == shorter.model and longer.first <= shorter.first and shorter.last <= longer.last
        if is_inside and shorter.seconds > longer.seconds * (1 + _TOLERANCE):
            found.append(
                Contradiction(
                    "longer_is_faster",
                    tuple(dict.fromkeys((longer.row, shorter.row))),
                    f"{_span(longer)} in {longer.seconds:g} s ({longer.row.name}) but {_span(shorter)}, which are among"
                    f" them, in {shorter.seconds:g} s ({shorter.row.name}):"
                    f" {shorter.seconds / longer.seconds - 1:.1%} more time for less work",
                )
            )
    return tuple(found)


def exceeds_total(rows: Sequence[PublishedRow], times: Sequence[StageTime]) -> tuple[Contradiction, ...]:
    """Stage times above every published total of the same model on that device, beyond the noise of both."""
    found = []
    for time in times:
        totals = {row: total_s(row) for row in _two_stage_rows(rows, time.model) if row != time.row}
        if totals and time.seconds > max(totals.values()) * (1 + _TOLERANCE):
            found.append(
                Contradiction(
                    "exceeds_total",
                    (time.row,),
                    f"{_span(time)} in {time.seconds:g} s ({time.row.name}) but the whole model in "
                    + " and ".join(f"{total:.3f} s (P{row.index})" for row, total in totals.items()),
                )
            )
    return tuple(found)


def beats_the_wire(models: Mapping[str, Model], rows: Sequence[PublishedRow]) -> tuple[Contradiction, ...]:
    """Network times shorter than the payload's own bits take at 1 Gbit/s."""
    found = []
    for row in rows:
        payload_bytes = PUBLISHED_BATCH * models[row.model].cut_bytes()[row.split]
        wire_s = payload_bytes * 8 / WIRE_RATE_BPS
        if wire_s > row.network_s:
            found.append(
                Contradiction(
                    "beats_the_wire",
                    (row,),
                    f"network time {row.network_s:g} s, but {payload_bytes / 1e6:.2f} MB at 1 Gbit/s take"
                    f" {payload_bytes / 1e6:.2f}·8/1000 = {wire_s:.3f} s ({row.name})",
                )
            )
    return tuple(found)


def totals_differ(rows: Sequence[PublishedRow]) -> tuple[Contradiction, ...]:
    """Models whose published totals differ by more than the noise of both."""
    found = []
    for model in dict.fromkeys(row.model for row in rows):
        totals = {row: total_s(row) for row in _two_stage_rows(rows, model)}
        if len(totals) > 1 and totals_spread(list(totals.values())) > _TOLERANCE:
            sums = " but ".join(
                f"{row.stages_s[0]:g} + {row.stages_s[1]:g} = {total:.3f} s (P{row.index})"
                for row, total in totals.items()
            )
            found.append(
                Contradiction(
                    "totals_differ",
                    tuple(totals),
                    f"{model} whole: {sums}, {totals_spread(list(totals.values())):.1%} of their mean apart",
                )
            )
    return tuple(found)


def out_of_line(work: Mapping[str, Floats], judged: JudgedFit) -> tuple[Contradiction, ...]:
    """Stage times that the fit without their row misses by more than three robust standard deviations of all."""
    limit = _DEVIATIONS * _DEVIATION_OF_MEDIAN * statistics.median(map(_log_error, judged.stages))
    return tuple(
        Contradiction("out_of_line", (stage.time.row,), _tell(work, judged, stage, math.exp(limit)))
        for stage in judged.stages
        if _log_error(stage) > limit
    )


def total_s(row: PublishedRow) -> float:
    """Both stages together, seconds per batch."""
    return sum(row.stages_s)


def totals_spread(totals_s: Sequence[float]) -> float:
    """Largest difference between totals, over their mean."""
    return (max(totals_s) - min(totals_s)) / statistics.fmean(totals_s)


def _two_stage_rows(rows: Sequence[PublishedRow], model: str) -> list[PublishedRow]:
    """Rows of a model whose two stages ran on the same kind of device, so that their sum is the model's."""
    return [row for row in rows if row.table == "pi_to_pi" and row.model == model]


def _log_error(stage: StageFit) -> float:
    """|log(left-out/published)|, with the published time moved towards it by what rounding may hide."""
    time = stage.time
    nearest_s = min(max(stage.left_out_s, time.seconds - time.resolution_s), time.seconds + time.resolution_s)
    return abs(math.log(stage.left_out_s / nearest_s))


def _tell(work: Mapping[str, Floats], judged: JudgedFit, stage: StageFit, limit: float) -> str:
    time = stage.time
    law = judged.fits_without[time.row].law
    multiply_adds, moved_bytes, calls = work[time.model][time.first : time.last].sum(axis=0)
    law_s = law.block_times_s(work[time.model])[time.first : time.last].sum()
    ratio = time.seconds / stage.left_out_s
    return (
        f"{_span(time)} in {time.seconds:g} s ({time.row.name}, stage {time.stage}); without this row"
        f" {multiply_adds / 1e9:.3f}/{law.multiply_adds_per_s / 1e9:.1f} (G multiply-adds)"
        f" + {moved_bytes / 1e9:.4f}/{law.bytes_per_s / 1e9:.3f} (GB) + {calls:.0f}·{law.overhead_s:.4f} (calls)"
        f" = {law_s:.4f} s, times {stage.left_out_s / law_s:.3f} from the other rows = {stage.left_out_s:.4f} s:"
        f" published is {ratio:.2f} times that, beyond the {limit:.2f}-fold that three robust deviations allow"
    )


def _span(time: StageTime) -> str:
    place, count = ("first", time.last) if time.first == 0 else ("last", time.last - time.first)
    return f"the {place} {f'{count} blocks' if count > 1 else 'block'} of {time.model}"
