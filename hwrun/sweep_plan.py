"""What a sweep is to measure and how, as one value; and which of its cells are skipped. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwrun.errors import BadUsageError
from hwrun.local.namespaces import availability
from hwrun.records import Cell
from hwrun.sweep_cells import PlannedCell, time_floor_s, too_long
from paretosim.block import Model
from paretosim.profiles import ProfileStore, identity


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How every cell of a sweep is run."""

    emulated: bool
    compute_each: bool
    speed: float
    batches: int
    seed: int
    queue_depth: int
    max_cell_time_s: float


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What is to be measured, and how.

    `timings` are the identities of the timings that emulated stages take their targets from; `block_s` the
    seconds of each block, by device and model, already divided by the speed. `allowed` are factories of networks
    outside the catalogue that may be imported and called, here and by the workers.
    """

    cells: tuple[PlannedCell, ...]
    models: dict[str, Model]
    settings: BenchSettings
    threads: int
    timings: dict[str, str]
    block_s: dict[tuple[str, str], tuple[float, ...]]
    allowed: tuple[str, ...] = ()

    def targets_s(self, cell: PlannedCell) -> tuple[float, ...] | None:
        """Emulated compute time of each stage that takes part, None where stages compute."""
        if not self.settings.emulated:
            return None
        return tuple(
            sum(self.block_s[stage.device, cell.plan.model][stage.first : stage.last]) for stage in cell.stages
        )

    def skip_reason(self, cell: PlannedCell) -> tuple[str, str] | None:
        """Reason and remedy where the cell cannot be measured here or would take too long, else None."""
        permitted = availability()
        if cell.link is not None and permitted.how == "none":
            return permitted.reason or "shaping is not permitted", permitted.remedy or "run as root"
        model = self.models[cell.plan.model]
        floor_s = time_floor_s(cell, model, self.targets_s(cell), self.settings.batches)
        return too_long(floor_s, self.settings.max_cell_time_s)


def emulated_blocks(
    store: ProfileStore, devices: Sequence[str], models: Sequence[Model], batch: int, speed: float
) -> tuple[dict[tuple[str, str], tuple[float, ...]], dict[str, str]]:
    """Seconds of each block by device and model at `batch`, divided by `speed`; and the timings' identities."""
    block_s: dict[tuple[str, str], tuple[float, ...]] = {}
    identities: dict[str, str] = {}
    for device in dict.fromkeys(devices):
        for model in models:
            timing = store.timing(device, model.name)
            seconds, _ = timing.at_batch(batch)
            if len(seconds) != len(model.blocks):
                raise BadUsageError(
                    f"timing of {model.name} on {device}: has {len(seconds)} blocks, the model {len(model.blocks)};"
                    " profile it again"
                )
            block_s[device, model.name] = tuple(value / speed for value in seconds)
            identities[f"{device}/{model.name}"] = identity(timing)
    return block_s, identities


def skipped(cell: PlannedCell, plan: SweepPlan, reason: str, remedy: str) -> Cell:
    """The record of a cell that was not measured."""
    return Cell(
        plan=str(cell.plan),
        mode=cell.mode,
        link_name=cell.link_name,
        link_asked=cell.link,
        source=cell.source,
        sink=cell.sink,
        repeat=cell.repeat,
        emulated=plan.settings.emulated,
        speed=plan.settings.speed,
        stage_targets_s=plan.targets_s(cell),
        status="skipped",
        reason=reason,
        remedy=remedy,
    )
