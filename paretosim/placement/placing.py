"""The exact front of latency and throughput over all placements of a model on k devices (docs/model.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from paretosim import pareto, pipeline
from paretosim.chain import Hop
from paretosim.objectives import DEFAULT_OBJECTIVES, Figures, Objective, objectives_named
from paretosim.placement.crossings import crossings_of, ending_s, on_wires_bytes, taken
from paretosim.placement.enumeration import candidates, energy_j_of
from paretosim.placement.search import Part, Point, front
from paretosim.placement.setting import PlacementSetting
from paretosim.placement.space import search_space, unjudged_pairs
from paretosim.plan import Plan, Stage
from paretosim.prediction import Baseline, in_closed_form
from paretosim.show.tabular import data_frame, fields_of, flat
from paretosim.terms import (
    HopTerms,
    control_s,
    holds_several,
    services_in_order,
    stages_taking,
    terms_in_effect,
    whole_model_s,
)
from paretosim.timing import Kind

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Of placements with equal objectives, how many are listed; all are counted.
LISTED_TIES = 8
# What stands in the way where no limit does.
OVERHEAD_BOUND = "that timings are overhead-bound"


class PlacementRow(msgspec.Struct, frozen=True, kw_only=True):
    """A placement on the front. `positions` are those of its devices, from 1.

    `links_s`, `stalls_s` and `delays_s` are in chain order and named by `hops`; `tied` are other placements of exactly
    equal latency and throughput, of which there are `ties` in all. What is a calibration's is as in a row of a
    prediction. Of energy, memory and bytes there is what the front is in.
    """

    plan: Plan
    positions: tuple[int, ...]
    latency_s: float
    throughput_per_s: float
    period_s: float
    bottleneck: str
    stages_s: tuple[float, ...]
    hops: tuple[str, ...]
    links_s: tuple[float, ...]
    stalls_s: tuple[float, ...]
    delays_s: tuple[float, ...]
    activation_bytes: tuple[int, ...]
    memory_bytes: tuple[int, ...]
    meets_constraints: bool
    ties: int = 0
    tied: tuple[Plan, ...] = ()
    latency_from_start_s: float | None = None
    sending_s: tuple[float, ...] | None = None
    receiving_s: tuple[float, ...] | None = None
    handovers_s: tuple[float, ...] | None = None
    energy_j_per_image: float | None = None
    peak_memory_bytes: int | None = None
    wire_bytes_per_image: float | None = None


class Best(msgspec.Struct, frozen=True):
    """The best placement in each objective, and the knee of the front; None where none qualifies."""

    latency: PlacementRow | None
    throughput: PlacementRow | None
    knee: PlacementRow | None


class Placement(msgspec.Struct, frozen=True, kw_only=True):
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
        return _figures(self.setting, row)

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

    def to_dataframe(self) -> pd.DataFrame:
        """`records` as a pandas DataFrame; what a shorter chain does not have is missing.

        Raises
        ------
        BadInputError : pandas is not installed.
        """
        return data_frame(self.records())

    def _repr_html_(self) -> str:
        from paretosim.show.notebook import placement_html

        return placement_html(self)


def place(setting: PlacementSetting, objectives: Iterable[str] = DEFAULT_OBJECTIVES) -> Placement:
    """The exact front of latency and throughput, or of other objectives, over all placements that the setting allows.

    Source: docs/model.md, "k devices".

    Raises
    ------
    BadInputError : a time is too large for a number, more arrangements of devices than can be searched, or with other
        objectives more placements than can be gone through; or an objective that a device has no figures for.
    """
    chosen = objectives_named(objectives)
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
    rows = [_with_figures(setting, _row(setting, point), point.placements[0], objectives) for point in listed]
    figures = np.array([[objective.cost_of(_figures(setting, row)) for objective in objectives] for row in rows])
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
    front_rows.sort(key=lambda row: [objective.cost_of(_figures(setting, row)) for objective in objectives])
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


def _with_figures(
    setting: PlacementSetting, row: PlacementRow, parts: Sequence[Part], objectives: Sequence[Objective]
) -> PlacementRow:
    """The row with what it has of these objectives beside latency and throughput."""
    names = {objective.name for objective in objectives}
    changes: dict[str, Any] = {}
    if "energy" in names:
        drawn_j = energy_j_of(
            setting, [part.device for part in parts], np.array([row.stages_s]), np.array([row.period_s])
        )
        changes["energy_j_per_image"] = float(pipeline.significant(drawn_j / setting.batch)[0])
    if "memory" in names:
        changes["peak_memory_bytes"] = max(row.memory_bytes)
    if "bytes" in names:
        crossings = crossings_of(setting, parts)
        sent = on_wires_bytes(setting, crossings) / setting.batch if crossings else np.zeros(1)
        changes["wire_bytes_per_image"] = float(pipeline.significant(sent)[0])
    return msgspec.structs.replace(row, **changes)


def _figures(setting: PlacementSetting, row: PlacementRow) -> Figures:
    return Figures(
        image_latency_s=float(pipeline.significant(np.array([setting.filling_s + row.latency_s]))[0]),
        throughput_per_s=row.throughput_per_s,
        energy_j_per_image=row.energy_j_per_image,
        peak_memory_bytes=row.peak_memory_bytes,
        wire_bytes_per_image=row.wire_bytes_per_image,
    )


def _front_rows(setting: PlacementSetting) -> tuple[PlacementRow, ...]:
    """Nondominated placements in the setting's mode, one row for each pair of latency and period."""
    points = front(*search_space(setting), listed=1 + LISTED_TIES)
    rows = [_row(setting, point) for point in points]
    # In `paced` every point is kept. The other modes mix latency and period, and drop what that makes worse.
    kept = pareto.is_nondominated(
        np.array([(row.latency_s, -row.throughput_per_s) for row in rows], dtype=np.float64).reshape(-1, 2)
    )
    return tuple(row for row, keep in zip(rows, kept, strict=True) if keep)


def _row(setting: PlacementSetting, point: Point) -> PlacementRow:
    """A point's first placement, with times worked out as `predict` does."""
    parts, others = point.placements[0], point.placements[1:]
    crossings = crossings_of(setting, parts)
    hops = [crossing.hop for crossing in crossings]
    last_s = ending_s(setting, parts[0].device, parts[-1].device)
    transfers = taken(setting, crossings, last_s) if crossings else None
    stages_s = _stages_s(setting, parts, hops, transfers)
    services_s, stations, waits_s = _line(stages_s, hops, transfers, last_s)
    found = in_closed_form(setting, services_s, waits_s, stations, hops)
    latency_s, period_s = float(found.latency_s[0]), float(found.period_s[0])
    from_start_s = found.latency_from_start_s
    throughput = setting.batch / period_s
    floor = max(setting.min_throughput_per_s or 0.0, setting.frame_rate_per_s or 0.0)
    ceiling = math.inf if setting.max_latency_s is None else setting.max_latency_s
    return PlacementRow(
        plan=_plan(setting, parts),
        positions=tuple(part.device + 1 for part in parts),
        latency_s=latency_s,
        throughput_per_s=throughput,
        period_s=period_s,
        bottleneck=stations[int(pipeline.significant(services_s).argmax())],  # the first of equals
        stages_s=tuple(stages_s[0].tolist()),
        hops=tuple(hop.name for hop in hops),
        **_hop_times(setting, transfers, last_s),
        activation_bytes=tuple(int(setting.cut_bytes[part.last]) for part in parts[:-1]),
        memory_bytes=tuple(int(setting.memory_bytes[part.first, part.last]) for part in parts),
        meets_constraints=latency_s + setting.filling_s <= ceiling and throughput >= floor,
        ties=point.count - 1,
        tied=tuple(_plan(setting, other) for other in others),
        latency_from_start_s=None if from_start_s is None else float(from_start_s[0]),
    )


def _line(
    stages_s: NDArray[np.float64], hops: Sequence[Hop], transfers: HopTerms | None, last_s: float
) -> tuple[NDArray[np.float64], tuple[str, ...], NDArray[np.float64]]:
    """Services of all stations with their names, and what a batch waits beside them; one device has no hops."""
    if transfers is None:
        return stages_s, ("stage1",), np.array([[last_s]])
    return *services_in_order(stages_s, transfers, hops), transfers.waits_s


def _hop_times(setting: PlacementSetting, transfers: HopTerms | None, last_s: float) -> dict[str, Any]:
    """What a row says of its hops; those of a calibration's terms only where it has such."""
    active = set(terms_in_effect(setting).active_terms())

    def row(name: str) -> tuple[float, ...]:
        return () if transfers is None else tuple(getattr(transfers, name)[0].tolist())

    dispatch_s = control_s(setting) - setting.control_delay_s
    return {
        "links_s": row("serialisation_s"),
        "stalls_s": row("stalls_s"),
        "delays_s": row("delays_s"),
        "sending_s": row("sender_s") if active & {"sending", "copying", "rpc"} else None,
        "receiving_s": row("receiving_s") if "receiving" in active else None,
        "handovers_s": (dispatch_s, *row("handover_s"), last_s)
        if active & {"dispatch", "handover", "returning"}
        else None,
    }


def _stages_s(
    setting: PlacementSetting, parts: Sequence[Part], hops: Sequence[Hop], transfers: HopTerms | None = None
) -> NDArray[np.float64]:
    """(1, stages) seconds of a placement's stages, all terms included."""
    calibration = terms_in_effect(setting)
    beside_s = None if transfers is None or not holds_several(setting.mode) else transfers.serialisation_s
    return stages_taking(
        [calibration.of(setting.devices[part.device].name) for part in parts],
        np.array([[math.fsum(setting.block_s[part.device][part.first : part.last]) for part in parts]]),
        np.array([[0], *([part.last] for part in parts)]),
        setting.cut_bytes,
        hops,
        beside_s,
    ).total_s


def _plan(setting: PlacementSetting, parts: Sequence[Part]) -> Plan:
    stages = tuple(Stage(setting.devices[part.device].name, part.first, part.last) for part in parts)
    return Plan(
        model=setting.model.name,
        stages=stages,
        batch=setting.batch,
        window=setting.mode.window,
        backend=setting.backend,
    )


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
