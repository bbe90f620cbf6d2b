"""How long a sweep will take, estimated before it starts and corrected while it runs. Pure: arithmetic on values.

An estimate, from what batches cannot avoid (stage times of profiles, bytes over rates, delays) and from how each mode
feeds them. It is nobody's prediction of latency or throughput: nothing measured is ever compared with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

from hwrun.errors import BadUsageError
from hwrun.planned_cell import Crossing, PlannedCell
from hwrun.probing.probe import ECHO_S, PINGS, RESTED_S, bulk_bytes
from hwrun.sweeps.plan import SweepPlan
from paretosim.link import Link

# Deploying, comparing and collecting, on two x86 cores; and the round trips of two data connections over the slow link,
# until both ends are proved and joined.
_CELL_S = 0.12
_CELL_ROUND_TRIPS = 4
# Making a model's weights, storing them and computing the reference output, in forward passes.
_REFERENCE_PASSES = 2.5
# Starting workers and computing the reference output: torch is imported, once here and once in each worker.
_START_S = 8.0
# How much the estimate counts beside what cells really took: as a share of the whole sweep, and seconds at least, which
# is about what is made once (a model's reference output, a link's probe) and falls to the first cells.
_PRIOR_SHARE = 0.25
_PRIOR_S = 30.0


@dataclass(frozen=True)
class Estimate:
    """Seconds that a sweep may take. `unknown` cells compute at a pace that no profile says: theirs is not in it."""

    duration_s: float
    cells: int
    unknown: int

    def __str__(self) -> str:
        text = f"{self.cells} cells to measure, about {spoken(self.duration_s)} (an estimate)"
        if self.unknown:
            text += f", and what {self.unknown} of them take to compute, which no profile says"
        return text


def estimate(plan: SweepPlan, cells: Sequence[PlannedCell]) -> Estimate:
    """How long these cells of the plan, none of them to be skipped, may take with their probes and workers."""
    if not cells:
        return Estimate(0.0, 0, 0)
    hops = dict.fromkeys((hop, cell.backend == "memory") for cell in cells for hop in cell.hops)
    probes_s = sum(2 * probe_s(hop, in_memory=in_memory) for hop, in_memory in hops if hop.start != hop.end)
    unknown = sum(plan.expected_stages_s(cell) is None for cell in cells)
    made_s = computed_once_s(plan, cells)
    return Estimate(_START_S + probes_s + made_s + sum(cell_s(plan, cell) for cell in cells), len(cells), unknown)


def cell_s(plan: SweepPlan, cell: PlannedCell) -> float:
    """Seconds that one cell may take, without its links' probes and what is computed for several cells."""
    around_s = sum(_round_trip_s(crossing.link) for crossing in cell.crossings() if crossing.link is not None)
    return _CELL_S + _CELL_ROUND_TRIPS * around_s + plan.floor_s(cell, plan.expected_stages_s(cell))


def computed_once_s(plan: SweepPlan, cells: Sequence[PlannedCell]) -> float:
    """Seconds of computing for real, on a core such as this machine's: reference outputs, and emulated stages.

    An emulated stage computes once for a block of cells. What the first one hands on is large, and was dropped by the
    next repeat; results of the last are small, and kept. Models of which no profile says how long they take cost
    nothing here.
    """
    total_s = 0.0
    for model, batch in {(cell.plan.model, cell.plan.batch) for cell in cells}:
        total_s += _REFERENCE_PASSES * sum(plan.host_block_s.get((model, batch), ()))
    if not plan.settings.emulated:
        return total_s
    stages = {
        (cell.plan.model, cell.plan.batch, stage.first, stage.last, cell.repeat if position == 0 else None)
        for cell in cells
        for position, stage in enumerate(cell.stages)
    }
    return total_s + sum(sum(plan.host_block_s.get((m, b), ())[first:last]) for m, b, first, last, _ in stages)


def probe_s(hop: Crossing, *, in_memory: bool) -> float:
    """Seconds that one probe of a hop may take: pings, transfer, sweep of sizes and messages after pauses."""
    if hop.link is None:
        return 1.0 if in_memory else 1.0 + RESTED_S
    return (PINGS + 1) * _round_trip_s(hop.link) + bulk_bytes(hop.link) * 8 / hop.link.rate_bps + ECHO_S


def _round_trip_s(link: Link) -> float:
    return link.one_way_delay_s + link.return_delay_s


class TimeLeft:
    """The time that is left, from the estimates of cells and how long those that are done took.

    Parameters
    ----------
    planned_s : estimated seconds of every cell, by its identity.
    clock : seconds that never go back.
    """

    def __init__(self, planned_s: dict[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._left_s = dict(planned_s)
        # The first cells pay for probes and for what is made once; they do not speak for all that come.
        self._prior_s = max(_PRIOR_S, _PRIOR_SHARE * sum(planned_s.values()))
        self._clock = clock
        self._since_s = clock()
        self._done_planned_s = 0.0
        self._done_took_s = 0.0

    def keep(self, cell_ids: Set[str]) -> None:
        """These are left: a cell begins, and what was done before it, or came between, is over."""
        self._left_s = {cell_id: value for cell_id, value in self._left_s.items() if cell_id in cell_ids}
        if self._done_planned_s == 0:
            self._since_s = self._clock()  # starting workers will not come again

    def done(self, cell_id: str) -> None:
        """That cell is done, in the time since the one before."""
        now_s = self._clock()
        self._done_planned_s += self._left_s.pop(cell_id, 0.0)
        self._done_took_s += now_s - self._since_s
        self._since_s = now_s

    def seconds(self) -> float:
        """Estimated seconds until all are done; those under way count from their beginning."""
        weight_s = self._prior_s + self._done_planned_s
        slower = (self._prior_s + self._done_took_s) / weight_s if weight_s > 0 else 1.0
        return max(0.0, sum(self._left_s.values()) * slower - (self._clock() - self._since_s))


def parse_long_duration_s(text: str, what: str) -> float:
    """Seconds of a time that may be long: `8h`, `90min` or `90m`, `1h30min`, `45s`.

    Raises
    ------
    BadUsageError : no such time, or none at all.

    >>> parse_long_duration_s("1h30min", "--max-time")
    5400.0
    """
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if found is None or not any(found.groups()):
        raise BadUsageError(f"{what}: got {text!r}, expected a time such as 8h, 90min, 1h30min or 45s")
    return sum(float(part or 0) * scale for part, scale in zip(found.groups(), (3600, 60, 1), strict=True))


def spoken(duration_s: float) -> str:
    """A duration of a sweep, to two units.

    >>> spoken(0.4), spoken(75), spoken(3 * 3600 + 59 * 60 + 59)
    ('0 s', '1 min 15 s', '3 h 59 min')
    """
    whole = round(duration_s)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
