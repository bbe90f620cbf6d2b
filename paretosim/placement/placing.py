"""The exact front of latency and throughput over all placements of a model on k devices (docs/model.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from paretosim import pareto, pipeline
from paretosim.errors import BadInputError
from paretosim.in_effect import terms_in_effect
from paretosim.objectives import DEFAULT_OBJECTIVES, Figures, Objective, objectives_named
from paretosim.placement.enumeration import candidates
from paretosim.placement.rows import PlacementRow, figures_of, row_of, with_figures
from paretosim.placement.search import Part, Point, front
from paretosim.placement.setting import PlacementSetting
from paretosim.placement.space import search_space, unjudged_pairs
from paretosim.plan import Plan
from paretosim.prediction import Baseline
from paretosim.resting import awake
from paretosim.stage_terms import whole_model_s
from paretosim.tabular import Tabular, fields_of, flat
from paretosim.timing import Kind

if TYPE_CHECKING:
    pass

# Of placements with equal objectives, how many are listed; all are counted.
LISTED_TIES = 8
# What stands in the way where no limit does.
OVERHEAD_BOUND = "that timings are overhead-bound"


class Best(msgspec.Struct, frozen=True):
    """The best placement in each objective, and the knee of the front; None where none qualifies."""

    latency: PlacementRow | None
    throughput: PlacementRow | None
    knee: PlacementRow | None


class Placement(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """What `place` found: the front from the lowest latency up, and what to compare it with.

    `unjudged` are pairs of positions (from 1) that no chain has both of, since both timings are overhead-bound.
    `obstacle` says, where nothing was found, what stands in the way. In other `objectives` than latency and throughput
    there is no knee, and `recommended` is of them as far as they are among those.
    """

    setting: PlacementSetting
    timing_kinds: tuple[Kind, ...]
    rows: tuple[PlacementRow, ...]
    recommended: Best
    alone: tuple[Baseline, ...]
    by_two: Best
    unjudged: tuple[tuple[int, int], ...]
    obstacle: str | None
    objectives: tuple[Objective, ...] = objectives_named(DEFAULT_OBJECTIVES)

    @property
    def profile_error(self) -> float | None:
        """The largest relative error of the timings; None where one is unknown."""
        errors = [timing.error.relative for timing in self.setting.timings if timing.error is not None]
        return max(errors) if len(errors) == len(self.setting.timings) else None

    @property
    def in_others(self) -> bool:
        """Whether the front is in other objectives than latency and throughput."""
        return {objective.name for objective in self.objectives} != set(DEFAULT_OBJECTIVES)

    def figures(self, row: PlacementRow) -> Figures:
        """A row in every objective that the front is in."""
        return figures_of(self.setting, row)

    def best(self, objective: Objective) -> PlacementRow | None:
        """The first of the rows that meet the constraints and have the best of that objective; None without one."""
        eligible = [row for row in self.rows if row.meets_constraints]
        return min(eligible, key=lambda row: objective.cost_of(self.figures(row)), default=None)

    def records(self) -> list[dict[str, Any]]:
        """The rows as flat dictionaries of plain values, without `tied`; lists are as long as a row's own chain."""
        records = []
        for row in self.rows:
            fields = fields_of(row) | {"plan": str(row.plan)}
            del fields["tied"]
            records.append(flat(fields))
        return records


def place(setting: PlacementSetting, objectives: Iterable[str] = DEFAULT_OBJECTIVES) -> Placement:
    """The exact front of latency and throughput, or of other objectives, over all placements that the setting allows.

    Source: docs/model.md, "k devices".

    Raises
    ------
    BadInputError : a time is too large for a number, more arrangements of devices than can be searched, or with other
        objectives more placements than can be gone through; or an objective that a device has no figures for.
    """
    chosen, setting = objectives_named(objectives), awake(setting)
    if {objective.name for objective in chosen} != set(DEFAULT_OBJECTIVES):
        return _placed_by(setting, chosen)
    rows = _front_rows(setting)
    by_two = rows
    if len(setting.devices) > 2 and (setting.max_devices is None or setting.max_devices > 2):
        by_two = _front_rows(msgspec.structs.replace(setting, max_devices=2))
    return Placement(
        setting=setting,
        timing_kinds=tuple(timing.at_batch(setting.batch)[1] for timing in setting.timings),
        rows=rows,
        recommended=_best(rows),
        alone=tuple(_alone(setting, device) for device in range(len(setting.devices))),
        by_two=_best(by_two),
        unjudged=unjudged_pairs(setting),
        obstacle=None if rows else _obstacle(setting),
    )


def _placed_by(setting: PlacementSetting, objectives: tuple[Objective, ...]) -> Placement:
    """The front in other objectives than latency and throughput."""
    costs, chains = search_space(setting)
    listed = [Point((parts,), 1) for parts in candidates(setting, costs, chains, objectives)]
    rows = [with_figures(setting, row_of(setting, point), point.placements[0], objectives) for point in listed]
    figures = np.array([[objective.cost_of(figures_of(setting, row)) for objective in objectives] for row in rows])
    equals: dict[tuple[float, ...], list[PlacementRow]] = {}
    if rows:
        for place, kept in enumerate(pareto.is_nondominated(figures).tolist()):
            if kept:
                equals.setdefault(tuple(figures[place].tolist()), []).append(rows[place])
    front_rows = []
    for alike in equals.values():
        first, *others = sorted(
            alike, key=lambda row: (len(row.positions), row.positions, [stage.last for stage in row.plan.stages])
        )
        tied = tuple(other.plan for other in others[:LISTED_TIES])
        front_rows.append(msgspec.structs.replace(first, ties=len(others), tied=tied))
    front_rows.sort(key=lambda row: [objective.cost_of(figures_of(setting, row)) for objective in objectives])
    found = _best(front_rows)
    names = {objective.name for objective in objectives}
    best = Best(
        found.latency if "latency" in names else None, found.throughput if "throughput" in names else None, None
    )
    return Placement(
        setting=setting,
        timing_kinds=tuple(timing.at_batch(setting.batch)[1] for timing in setting.timings),
        rows=tuple(front_rows),
        recommended=best,
        alone=tuple(_alone(setting, device) for device in range(len(setting.devices))),
        by_two=Best(None, None, None),
        unjudged=unjudged_pairs(setting),
        obstacle=None if rows else _obstacle(setting),
        objectives=objectives,
    )


def predict_plans(setting: PlacementSetting, plans: Iterable[Plan | str]) -> tuple[PlacementRow, ...]:
    """What these plans do on the setting's devices and links, on a front or not, in the order given.

    A plan's devices are those of the setting by name; of several of one name the first that is free. Limits on
    placements and memory are not asked about.

    Raises
    ------
    BadInputError : a plan of another model, batch, window or backend, or of blocks or devices that are not there.
    """
    return tuple(
        row_of(setting, Point((_parts(setting, Plan.parse(plan) if isinstance(plan, str) else plan),), 1))
        for plan in plans
    )


def _parts(setting: PlacementSetting, plan: Plan) -> tuple[Part, ...]:
    """A plan's stages on positions of the setting's devices."""
    expected = msgspec.structs.replace(
        plan, model=setting.model.name, batch=setting.batch, window=setting.mode.window, backend=setting.backend
    )
    if plan != expected:
        raise BadInputError(f"plan: got {plan}, expected one such as {expected}, of the setting's model and load")
    blocks = len(setting.model.blocks)
    if plan.stages[-1].last != blocks:
        raise BadInputError(f"plan: {plan} ends at block {plan.stages[-1].last}, expected {blocks}")
    free = list(enumerate(device.name for device in setting.devices))
    parts: list[Part] = []
    for stage in plan.stages:
        found = next((position for position, name in free if name == stage.device), None)
        if found is None:
            names = ", ".join(device.name for device in setting.devices)
            raise BadInputError(f"plan: {plan} has a stage on {stage.device}, expected devices of {names}, each once")
        free = [(position, name) for position, name in free if position != found]
        parts.append(Part(found, stage.first, stage.last))
    return tuple(parts)


def _front_rows(setting: PlacementSetting) -> tuple[PlacementRow, ...]:
    """Nondominated placements in the setting's mode, one row for each pair of latency and period."""
    points = front(*search_space(setting), listed=1 + LISTED_TIES)
    rows = [row_of(setting, point) for point in points]
    # In `paced` every point is kept. The other modes mix latency and period, and drop what that makes worse.
    kept = pareto.is_nondominated(
        np.array([(row.latency_s, -row.throughput_per_s) for row in rows], dtype=np.float64).reshape(-1, 2)
    )
    return tuple(row for row, keep in zip(rows, kept, strict=True) if keep)


def _best(rows: Sequence[PlacementRow]) -> Best:
    """Best in each objective and the knee of those that meet the constraints; ties to the better other objective."""
    eligible = [row for row in rows if row.meets_constraints]
    if not eligible:
        return Best(None, None, None)
    return Best(
        latency=min(eligible, key=lambda row: (row.latency_s, -row.throughput_per_s)),
        throughput=min(eligible, key=lambda row: (-row.throughput_per_s, row.latency_s)),
        knee=eligible[pareto.knee([r.latency_s for r in eligible], [r.throughput_per_s for r in eligible])],
    )


def _alone(setting: PlacementSetting, index: int) -> Baseline:
    """Everything on one device with the data there and the result kept there."""
    device = setting.devices[index]
    blocks_s = np.array([[math.fsum(setting.block_s[index])]])
    known = terms_in_effect(setting).of(device.name)
    total_s = whole_model_s(known, blocks_s, int(setting.cut_bytes[0]), int(setting.cut_bytes[-1]))
    found = pipeline.objectives(total_s, np.zeros((1, 1)), setting.mode, pipeline.Starts(np.zeros(1), total_s[:, 0]))
    need = int(setting.memory_bytes[0, -1])
    return Baseline(
        device=device.name,
        latency_s=float(found.latency_s[0]),
        throughput_per_s=setting.batch / float(found.period_s[0]),
        memory_bytes=need,
        fits=need <= device.usable_bytes,
    )


def _obstacle(setting: PlacementSetting) -> str:
    """Which limits leave no placement at all, found by lifting them in turn."""
    lifted: dict[str, dict[str, Any]] = {
        "the devices' memory": {"within_memory": False},
        "pins and forbids": {"pins": (), "forbids": ()},
        "pins and forbids together with the devices' memory": {"within_memory": False, "pins": (), "forbids": ()},
        "the limit on how many devices take part": {"max_devices": None},
        "all these limits together": {"within_memory": False, "pins": (), "forbids": (), "max_devices": None},
    }
    for what, changes in lifted.items():
        changed = msgspec.structs.replace(setting, **changes)
        if front(*search_space(changed), listed=1):
            return what
    return OVERHEAD_BOUND
