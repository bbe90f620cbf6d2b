"""What a sweep is to measure and how, as one value; and which of its cells are skipped. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hwrun.data.images import ImageSet
from hwrun.data.opening import SYNTHETIC
from hwrun.errors import BadUsageError
from hwrun.planned_cell import PlannedCell
from hwrun.probing.link_check import DEFAULT_TOLERANCE
from hwrun.records import Cell, ComputeDevice
from hwrun.sweeps.cell_duration import time_floor_s, too_long
from hwrun.testbed import Site
from paretosim.block import Model
from paretosim.errors import ParetosimError, ProfileError
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore, identity


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How every cell of a sweep is run. `link_tolerance` is by how much a shaped link may miss what was asked for."""

    emulated: bool
    compute_each: bool
    speed: float
    batches: int
    seed: int
    queue_depth: int
    max_cell_time_s: float
    link_tolerance: float = DEFAULT_TOLERANCE


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What is to be measured, where and how.

    `sites` says where by backend; several backends may share one. `timings` are the identities of the timings that
    emulated stages take their targets from; `block_s` the seconds of each block, by device, model and batch size,
    already divided by the speed; where stages compute, those that a profile of the device says, if there is one, for
    how long a cell will last alone. `host_block_s`, by model and batch size, are of a core such as this machine's, for
    the estimate of the sweep's duration alone. `allowed` are factories of networks outside the catalogue that may be
    imported and called, here and by the workers. `devices` are what stages compute on: one for all, or one for each in
    turn; none for the workers' own.
    """

    cells: tuple[PlannedCell, ...]
    sites: Mapping[str, Site]
    models: dict[str, Model]
    settings: BenchSettings
    threads: int
    timings: dict[str, str]
    block_s: dict[tuple[str, str, int], tuple[float, ...]]
    allowed: tuple[str, ...] = ()
    images: ImageSet | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    accuracy_images: int = 256
    devices: tuple[ComputeDevice, ...] = ()
    host_block_s: Mapping[tuple[str, int], tuple[float, ...]] = field(default_factory=dict)

    def stage_devices(self, cell: PlannedCell) -> tuple[ComputeDevice | None, ...]:
        """What each stage that takes part is to compute on, None for its worker's own."""
        asked = self.devices if len(self.devices) != 1 else self.devices * len(cell.stages)
        return asked[: len(cell.stages)] or (None,) * len(cell.stages)

    def host_devices(self, cells: Sequence[PlannedCell]) -> dict[str, frozenset[ComputeDevice]]:
        """What stages of these cells are to compute on, by host."""
        found: dict[str, set[ComputeDevice]] = {}
        for cell in cells:
            for host, device in zip(cell.stage_hosts, self.stage_devices(cell), strict=True):
                if device is not None:
                    found.setdefault(host, set()).add(device)
        return {host: frozenset(devices) for host, devices in found.items()}

    @property
    def data_description(self) -> str:
        """What the inputs are, for the manifest."""
        return SYNTHETIC if self.images is None else f"{self.images.description} {self.images.identity}"

    def weights_identity(self) -> dict[str, str]:
        """Digest of each file of weights that was given, by model."""
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.weights.items()}

    def targets_s(self, cell: PlannedCell) -> tuple[float, ...] | None:
        """Emulated compute time of each stage that takes part, None where stages compute."""
        return self.expected_stages_s(cell) if self.settings.emulated else None

    def expected_stages_s(self, cell: PlannedCell) -> tuple[float, ...] | None:
        """Compute time of each stage that takes part, as a profile of its device says; None where there is none."""
        plan = cell.plan
        blocks_s = [self.block_s.get((stage.device, plan.model, plan.batch)) for stage in cell.stages]
        if None in blocks_s:
            return None
        return tuple(
            sum((block_s or ())[stage.first : stage.last]) for block_s, stage in zip(blocks_s, cell.stages, strict=True)
        )

    def slowed_from_behind(self, cell: PlannedCell) -> bool:
        """Whether a batch is slowed by those behind it: stages compute beside one another, or share a host."""
        computes = not self.settings.emulated or self.settings.compute_each
        return computes or len(set(cell.stage_hosts)) < len(cell.stage_hosts)

    def skip_reason(self, cell: PlannedCell) -> tuple[str, str] | None:
        """Reason and remedy where the cell cannot be measured here or would take too long, else None."""
        if (refused := self.sites[cell.plan.backend].refuses(cell)) is not None:
            return refused
        return too_long(self.floor_s(cell, self.expected_stages_s(cell)), self.settings.max_cell_time_s)

    def floor_s(self, cell: PlannedCell, stages_s: Sequence[float] | None) -> float:
        """Seconds that the cell takes at least where its stages take these times."""
        model, batches = self.models[cell.plan.model], self.settings.batches
        return time_floor_s(cell, model, stages_s, batches, slowed_from_behind=self.slowed_from_behind(cell))


def known_blocks(
    store: ProfileStore, plans: Sequence[Plan], models: Mapping[str, Model]
) -> dict[tuple[str, str, int], tuple[float, ...]]:
    """Seconds of each block by device, model and batch, of those devices that have a profile that fits.

    Raises
    ------
    ProfileError : a profile that is there cannot be read.
    """
    found: dict[tuple[str, str, int], tuple[float, ...]] = {}
    for plan in plans:
        try:
            found |= emulated_blocks(store, [plan], models, 1.0)[0]
        except ProfileError:
            raise  # broken, which must not pass for none
        except (BadUsageError, ParetosimError):
            continue  # no profile, or none of this batch size: stages compute, and none is needed
    return found


def emulated_blocks(
    store: ProfileStore, plans: Sequence[Plan], models: Mapping[str, Model], speed: float
) -> tuple[dict[tuple[str, str, int], tuple[float, ...]], dict[str, str]]:
    """Seconds of each block by device, model and batch, divided by `speed`; and the timings' identities."""
    block_s: dict[tuple[str, str, int], tuple[float, ...]] = {}
    identities: dict[str, str] = {}
    for key in dict.fromkeys((stage.device, plan.model, plan.batch) for plan in plans for stage in plan.stages):
        device, name, batch = key
        timing = store.timing(device, name)
        seconds, _ = timing.at_batch(batch)
        if len(seconds) != len(models[name].blocks):
            raise BadUsageError(
                f"timing of {name} on {device}: has {len(seconds)} blocks, the model {len(models[name].blocks)};"
                " profile it again"
            )
        block_s[key] = tuple(value / speed for value in seconds)
        identities[f"{device}/{name}"] = identity(timing)
    return block_s, identities


def recorded(cell: PlannedCell, plan: SweepPlan, status: Literal["done", "skipped", "failed"], **found: Any) -> Cell:
    """The record of a cell: what was planned, and what was `found` of it, by the names of Cell's fields."""
    return Cell(
        plan=str(cell.plan),
        mode=cell.mode,
        link_name=cell.link_name,
        link_asked=cell.links[0] if cell.links else None,
        later_links_asked=cell.links[1:],
        hosts=cell.hosts,
        source=cell.source,
        sink=cell.sink,
        workers=cell.workers,
        tcp_state=cell.tcp_state,
        repeat=cell.repeat,
        emulated=plan.settings.emulated,
        speed=plan.settings.speed,
        stage_targets_s=plan.targets_s(cell),
        status=status,
        **found,
    )
