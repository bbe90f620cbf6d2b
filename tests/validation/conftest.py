"""Synthetic runs: records of a pipeline whose every time is known, in a folder as hwrun sweep writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwrun.records import (
    BatchRecord,
    Cell,
    LinkMeasured,
    Manifest,
    OutputCheck,
    Phases,
    SubRun,
    append_cell,
    write_manifest,
)
from paretosim.block import Block, Model, TensorShape
from paretosim.chain import Sink
from paretosim.device import Device
from paretosim.link import HEADER_BYTES_SHAPED, MSS_BYTES, Link
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.prediction import Prediction, Row, predict
from paretosim.profiles import ProfileStore, identity, write_profile
from paretosim.setting import Setting
from paretosim.timing import BatchTiming, BlockTiming, Timing, TimingError
from paretosim.transfer_time import TcpState

DEVICES = ("slow", "fast")
BATCH = 8
BATCHES = 9
CONTROL_S = 0.0005
SLOW_LINK = Link(
    schema_version=1, name="5mbit,20ms", rate_bps=5e6, one_way_delay_s=0.02, return_rate_bps=5e6, return_delay_s=0.0
)
# Activations shrink along the model, so that over a slow link late splits send less and the front has several points.
CUT_ELEMENTS = (3000, 8000, 4000, 1000, 300, 10)
SLOW_S = (0.05, 0.04, 0.03, 0.02, 0.01)
FAST_S = (0.01, 0.008, 0.006, 0.004, 0.002)


@dataclass
class Factors:
    """What a synthetic measurement is multiplied by: 1 is exactly the model's prediction."""

    latency: float = 1.0
    throughput: float = 1.0
    transfer: float = 1.0


@dataclass
class SyntheticRun:
    """Writes the run; `factors(split, repeat)` makes measurements differ from predictions."""

    folder: Path
    profiles: Path
    model: str = "toy"
    splits: Sequence[int] = (0, 1, 2, 3, 4, 5)
    repeats: int = 2
    modes: Sequence[Mode] = (Mode(name="paced"),)
    links: Sequence[Link | None] = (SLOW_LINK,)
    emulated: bool = True
    speed: float = 2.0
    tcp_state: TcpState = "warm"
    sink: Sink = "last"
    kind: str = "local"
    goodput_bps: float | None = 40e6
    rtt_s: float = 0.001
    batches: int = BATCHES
    factors: Callable[[int, int], Factors] = field(default=lambda split, repeat: Factors())
    manifest_changes: dict[str, Any] = field(default_factory=dict)
    cell_changes: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> ProfileStore:
        return ProfileStore([self.profiles])

    def prediction(self, mode: Mode, link: Link | None) -> Prediction:
        store = self.store
        if link is None:
            assert self.goodput_bps is not None
            link = Link(
                schema_version=1, name="probed", rate_bps=self.goodput_bps, one_way_delay_s=self.rtt_s / 2,
                return_rate_bps=self.goodput_bps, return_delay_s=self.rtt_s / 2, header_bytes=0, wmax_bytes=2**40,
            )  # fmt: skip
        one, two = DEVICES
        return predict(
            Setting(
                model=store.model(self.model), devices=(store.device(one), store.device(two)),
                timings=(store.timing(one, self.model), store.timing(two, self.model)),
                link=link, mode=mode, batch=BATCH, speed=self.speed, control_delay_s=CONTROL_S,
                tcp_state=self.tcp_state, sink=self.sink,
            )
        )  # fmt: skip

    def write(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        cells = [
            self.cell(mode, link, split, repeat)
            for repeat in range(self.repeats)
            for mode in self.modes
            for link in self.links
            for split in self.splits
        ]
        manifest = Manifest(
            run_id="synthetic", created_utc="2026-01-02T03:04:05Z", command_line=("hwrun", "sweep", "--local"),
            testbed={"kind": self.kind}, workers=({"name": "one", "threads": 1},),
            emulated=self.emulated, speed=self.speed,
            timings={f"{device}/{self.model}": identity(self.store.timing(device, self.model)) for device in DEVICES},
            versions={"python": "3.11"}, host={"kernel": "6.18"}, sysctls={"net.ipv4.tcp_no_metrics_save": "1"},
            qdisc="", seed=7, cells_planned=len(cells),
        )  # fmt: skip
        write_manifest(self.folder, msgspec.structs.replace(manifest, **self.manifest_changes))
        for cell in cells:
            append_cell(self.folder, cell)
        return self.folder

    def cell(self, mode: Mode, link: Link | None, split: int, repeat: int) -> Cell:
        prediction = self.prediction(mode, link)
        row = prediction.row(split)
        factors = self.factors(split, repeat)
        names = ("saturated", "paced") if mode.name == "paced" else (mode.name,)
        plan = Plan.two_devices(self.model, len(SLOW_S), split, DEVICES, batch=BATCH, window=mode.window)
        payload_share = 1.0 if link is None else MSS_BYTES / (MSS_BYTES + HEADER_BYTES_SHAPED)
        measured = LinkMeasured(
            medium="loopback" if link is None else "relay",
            rtt_samples_s=(self.rtt_s,) * 3 if link is None else (link.rtt_s,) * 3,
            goodput_bps=self.goodput_bps if link is None else link.rate_bps * payload_share,
            probe_bytes=1_000_000,
        )
        cell = Cell(
            plan=str(plan), mode=mode, link_name="unshaped" if link is None else link.name, link_asked=link,
            tcp_state=self.tcp_state, sink=self.sink, repeat=repeat, emulated=self.emulated, speed=self.speed,
            stage_targets_s=row.stages_s if self.emulated else None, status="done",
            link_measured=measured, control_delay_s=CONTROL_S,
            output_check=OutputCheck(bitwise_equal=True, max_abs_difference=0.0, relative_difference=0.0),
            subruns=tuple(SubRun(name=name, batches=self._batches(name, row, mode, factors)) for name in names),
        )  # fmt: skip
        if self.sink == "first" and split == len(SLOW_S):
            cell = _without_the_second_stage(cell)
        return msgspec.structs.replace(cell, **self.cell_changes)

    def _batches(self, name: str, row: Row, mode: Mode, factors: Factors) -> tuple[BatchRecord, ...]:
        latency_s = row.latency_s * factors.latency
        period_s = row.period_s / factors.throughput
        if name == "burst":
            assert mode.batches is not None
            return tuple(self._burst_batch(index, row, mode.batches) for index in range(mode.batches))
        return tuple(self._batch(i, i * period_s, latency_s, row, factors) for i in range(self.batches))

    def _burst_batch(self, index: int, row: Row, batches: int) -> BatchRecord:
        slowest_s = max(*row.stages_s, *row.links_s)
        unloaded_s = sum(row.stages_s) + sum(row.links_s) + sum(row.delays_s) + CONTROL_S
        return msgspec.structs.replace(
            self._batch(index, 0.0, unloaded_s + index * slowest_s, row, Factors()), index=index
        )

    def _batch(self, index: int, dispatched_s: float, latency_s: float, row: Row, factors: Factors) -> BatchRecord:
        computed_s = dispatched_s + CONTROL_S + row.stages_s[0]
        arrived_s = computed_s + (row.links_s[0] + row.stalls_s[0] + row.delays_s[0]) * factors.transfer
        one = Phases(
            compute_start_s=dispatched_s + CONTROL_S, compute_end_s=computed_s,
            send_start_s=computed_s, send_end_s=computed_s + row.links_s[0],
        )  # fmt: skip
        done_s = arrived_s + row.stages_s[1]
        two = Phases(
            receive_start_s=computed_s, receive_end_s=arrived_s, compute_start_s=arrived_s, compute_end_s=done_s,
            send_start_s=done_s, send_end_s=done_s,
        )  # fmt: skip
        return BatchRecord(
            index=index, dispatched_s=dispatched_s, returned_s=dispatched_s + latency_s, stages=(one, two)
        )


def _without_the_second_stage(cell: Cell) -> Cell:
    """As a sweep records it: a trailing empty stage takes no part where the sink is first."""
    subruns = tuple(
        msgspec.structs.replace(
            subrun, batches=tuple(msgspec.structs.replace(batch, stages=batch.stages[:1]) for batch in subrun.batches)
        )
        for subrun in cell.subruns
    )
    targets_s = None if cell.stage_targets_s is None else cell.stage_targets_s[:1]
    return msgspec.structs.replace(cell, subruns=subruns, stage_targets_s=targets_s)


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., SyntheticRun]:
    """A maker of synthetic runs in a fresh folder, over profiles of a toy model and two devices."""
    profiles = write_profiles(tmp_path / "profiles")

    def make(name: str = "run", **changes: Any) -> SyntheticRun:
        return SyntheticRun(folder=tmp_path / name, profiles=profiles, **changes)

    return make


def write_profiles(directory: Path) -> Path:
    """Profiles of a toy model of five blocks on a slow and a fast device."""
    write_profile(directory / "models" / "toy.json", _model())
    for device, seconds, kind in zip(DEVICES, (SLOW_S, FAST_S), ("reconstructed", "measured"), strict=True):
        profile = Device(schema_version=1, name=device, title=device.title())
        blocks = tuple(BlockTiming(name=f"block{i}", value_s=value) for i, value in enumerate(seconds))
        timing = Timing(
            schema_version=1, device=device, model="toy", kind=kind, how="made up",
            batches=(BatchTiming(batch=BATCH, blocks=blocks),), error=TimingError(relative=0.03, meaning="made up"),
        )  # fmt: skip
        write_profile(directory / "devices" / f"{device}.json", profile)
        write_profile(directory / "timings" / device / "toy.json", timing)
    return directory


def _model() -> Model:
    shapes = [TensorShape(shape=(elements,), dtype="float32") for elements in CUT_ELEMENTS]
    blocks = tuple(
        Block(
            name=f"block{i}", flops=1000, parameters=10, parameter_bytes=40, buffer_bytes=0, outputs=(shape,),
            peak_activation_bytes=1000,
        )
        for i, shape in enumerate(shapes[1:])
    )  # fmt: skip
    return Model(
        schema_version=1, name="toy", classes=10, input=shapes[0], flops_convention="made up", origin={}, blocks=blocks
    )
