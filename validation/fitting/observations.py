"""Observations: what a run says of the parameters, as times of phases, one for each repeat of a cell.

A phase is a piece of a batch's way between two recorded times (docs/measuring.md), so each parameter meets the phase
that it belongs to and not only a latency in which everything is summed. Phases that wait in a queue say nothing of
costs: they are taken of modes in which no batch waits, `single` and `paced`. The others, and the saturated part of
`paced`, say how often a batch leaves, in which what occupies a station shows. Computing waits for nothing in any mode,
and what it takes longer beside the transfers of other batches shows in these others alone.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from hwrun.records import BatchRecord, Cell
from paretosim.operation import Operation
from paretosim.placement.setting import PlacementSetting
from paretosim.plan import Plan
from paretosim.setting import Setting
from validation.comparing import Comparison
from validation.conditions import shares_a_clock
from validation.join import Joined
from validation.measured import MAD_TO_SIGMA
from validation.predicting import Cuts

Phase = Literal["compute1", "compute2", "dispatch", "leaving", "transfer", "calling", "arriving", "result", "period"]
PHASES: tuple[Phase, ...] = get_args(Phase)
# A phase is read by one clock, from one thread that may be woken late: nobody knows it better than this.
_LEAST_SPREAD_S = 10e-6
# Nor does any model of this kind claim to be nearer than this.
LEAST_SPREAD = 0.001


@dataclass(frozen=True)
class Point:
    """What is predicted once, however often it was measured: a phase of one plan of a case.

    A plan is a split, or the cuts of more than two stages. `place` is the stage (of `leaving` the one that is left, of
    `arriving` the one behind) or the hop, from 0; phases of which a plan has one are at 0.
    """

    case: int
    split: int | Cuts
    phase: Phase
    place: int = 0


@dataclass(frozen=True)
class Observation:
    """The median of a phase over the batches of one repeat, and how far such a median is off by chance (relative)."""

    point: Point
    run_id: str
    repeat: int
    seconds: float
    spread: float


@dataclass(frozen=True)
class Case:
    """Cells that share a setting but for the split, each with its run. `one_clock`: all stages' times are of one."""

    setting: Setting | PlacementSetting
    emulated: bool
    one_clock: bool
    cells: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Observed:
    """Observations of some cases."""

    cases: tuple[Case, ...]
    observations: tuple[Observation, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, each once, in order of appearance."""
        return tuple(dict.fromkeys(observation.point for observation in self.observations))

    def counted(self) -> dict[Phase, int]:
        """How many observations there are of each phase."""
        found = Counter(observation.point.phase for observation in self.observations)
        return {phase: found[phase] for phase in PHASES if found[phase]}


def cases_of(joined: Joined, wanted: Callable[[Cell], bool] = lambda _: True) -> tuple[Case, ...]:
    """The joined cells that are `wanted`, by the settings that they share."""
    cells = {
        (run.manifest.run_id, cell.cell_id): cell
        for run in joined.runs
        for cell in run.latest_cells()
        if cell.status == "done"
    }
    one_clock = all(shares_a_clock(run.manifest) for run in joined.runs)
    cases = []
    for condition in joined.conditions:
        # Serial plans differ by the buffers of their sockets too.
        alike: dict[Operation, list[Comparison]] = {}
        for comparison in condition.comparisons:
            alike.setdefault(comparison.inputs.operation, []).append(comparison)
        for comparisons in alike.values():
            own = [
                (repeat.run_id, cells[repeat.run_id, repeat.cell_id])
                for comparison in comparisons
                for repeat in comparison.repeats
                if wanted(cells[repeat.run_id, repeat.cell_id])
            ]
            if own:
                inputs = comparisons[0].inputs
                setting = inputs.setting if len(inputs.devices) == 2 else inputs.placement
                cases.append(Case(setting, condition.condition.emulated, one_clock, tuple(own)))
    return tuple(cases)


def observe(cases: Sequence[Case]) -> Observed:
    """What the cells of these cases say."""
    found = [
        observation
        for number, case in enumerate(cases)
        for run_id, cell in case.cells
        for observation in _of_cell(cell, case, number, run_id)
    ]
    return Observed(tuple(cases), tuple(found))


def _of_cell(cell: Cell, of: Case, case: int, run_id: str) -> Iterator[Observation]:
    plan = Plan.parse(cell.plan)
    cuts = plan.cuts
    split = cuts[0] if len(cuts) == 1 else cuts

    def observation(phase: Phase, samples_s: Sequence[float], place: int = 0) -> Observation:
        middle_s = statistics.median(samples_s)
        off_s = MAD_TO_SIGMA * statistics.median(abs(sample - middle_s) for sample in samples_s)
        spread = max(off_s / len(samples_s) ** 0.5, _LEAST_SPREAD_S) / middle_s
        return Observation(Point(case, split, phase, place), run_id, cell.repeat, middle_s, spread)

    mode = cell.mode.name
    if mode in ("single", "paced"):
        batches = cell.subrun(mode).batches
        for phase, place, samples_s in _phases(batches, cell, plan, one_clock=of.one_clock):
            if min(samples_s) > 0:
                yield observation(phase, samples_s, place)
    if mode != "single":
        if mode != "paced":
            for phase, place, samples_s in _computing(cell.subrun(mode).batches, cell, plan):
                yield observation(phase, samples_s, place)
        images = plan.batch
        period_s = images / cell.throughput_per_s()
        yield Observation(Point(case, split, "period"), run_id, cell.repeat, period_s, _LEAST_SPREAD_S / period_s)


def _computing(batches: Sequence[BatchRecord], cell: Cell, plan: Plan) -> Iterator[tuple[Phase, int, list[float]]]:
    """Of stages that compute, which emulated ones do not."""
    for number, stage in enumerate(plan.stages):
        if stage.last > stage.first and not cell.emulated:
            own = [batch.stages[number] for batch in batches]
            name: Phase = "compute1" if number == 0 else "compute2"
            yield name, number, [phases.compute_end_s - phases.compute_start_s for phases in own]


def _phases(
    batches: Sequence[BatchRecord], cell: Cell, plan: Plan, *, one_clock: bool
) -> Iterator[tuple[Phase, int, list[float]]]:
    """Of batches that waited for none. What two clocks would have to be compared for is left out."""
    if any(len(batch.stages) != len(plan.stages) for batch in batches):
        return  # a trailing empty stage that took no part
    yield from _computing(batches, cell, plan)
    last = len(plan.stages) - 1
    for number in range(len(plan.stages)):
        own = [batch.stages[number] for batch in batches]
        if number < last:
            yield "leaving", number, [phases.send_start_s - phases.compute_end_s for phases in own]
        if number < last and plan.backend == "rpc":  # whose call returns with its answer, which holds the hop
            yield "calling", number, [phases.send_end_s - phases.send_start_s for phases in own]
        arrivals = [(phases.receive_end_s, phases.compute_start_s) for phases in own]
        whole = [(arrived, started) for arrived, started in arrivals if arrived is not None]
        if number and len(whole) == len(arrivals):
            yield "arriving", number, [started - arrived for arrived, started in whole]
            if one_clock:
                sent = [batch.stages[number - 1].send_start_s for batch in batches]
                yield "transfer", number - 1, [arrived - start for (arrived, _), start in zip(whole, sent, strict=True)]
    if one_clock and cell.source == "stage1":
        yield "dispatch", 0, [batch.stages[0].compute_start_s - batch.dispatched_s for batch in batches]
    if one_clock and cell.sink == "last":
        yield "result", 0, [batch.returned_s - batch.stages[-1].compute_end_s for batch in batches]
