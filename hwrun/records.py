"""Records: the schema of a run folder, its writer and its reader. Pure: no torch, no sockets.

A run is a folder with `manifest.json` (what it ran on) and `cells.jsonl` (one line per measured cell, appended
and fsynced). Raw timestamps are kept; every statistic below is computed from them on read. Each timestamp is of
the monotonic clock of the process that took it; only differences within one process mean anything.
"""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from hwrun.errors import RecordError
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.plan import Plan

SCHEMA_VERSION = 1
Scalar = str | int | float | bool | None


class Phases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one stage did for one batch, in seconds of that worker's monotonic clock.

    docs/measuring.md says what each interval includes. None where the stage has no such phase (stage 1
    receives nothing when the data is already there). `overrun` marks an emulated stage whose host was slower
    than its target.
    """

    receive_start_s: float | None = None
    receive_end_s: float | None = None
    compute_start_s: float
    compute_end_s: float
    send_start_s: float
    send_end_s: float
    overrun: bool = False


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One batch: dispatched and returned on the orchestrator's clock, and what each stage did."""

    index: int
    dispatched_s: float
    returned_s: float
    stages: tuple[Phases, ...]

    @property
    def latency_s(self) -> float:
        """From dispatching the batch to holding its result."""
        return self.returned_s - self.dispatched_s


class SubRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Batches fed in one way: `window` in flight at most, or one every `interval_s`. Warm-up is held apart."""

    name: Literal["single", "saturated", "paced", "closed", "burst"]
    window: int | None = None
    interval_s: float | None = None
    warmup: tuple[BatchRecord, ...] = ()
    batches: tuple[BatchRecord, ...]


class LinkMeasured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a probe of the data path found: raw round trips of an empty message, and goodput of a long one.

    `medium` is what carried the bytes: `loopback`, `veth` (unshaped) or `relay` (shaped). `goodput_bps` counts
    payload bits received per second in steady state, None where the probe could not tell.
    """

    medium: Literal["loopback", "veth", "relay", "network"]
    rtt_samples_s: tuple[float, ...]
    goodput_bps: float | None
    probe_bytes: int


class OutputCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pipeline's output against the unsplit model's, on the same input."""

    bitwise_equal: bool
    max_abs_difference: float
    relative_difference: float


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured (or skipped, or failed) combination of plan, mode, link and repeat.

    `link_asked` is None for an unshaped link. `stage_targets_s` are the emulated stages' target times, already
    divided by `speed`; None where stages compute for real. Skipped and failed cells carry `reason` and `remedy`.
    `tcp_info` is of each stage's sending socket after the last batch, empty where that is a unix socket. `relay` is
    what a shaped link's relay counted meanwhile, `load` the machine's use. `queue_depth` batches may wait before
    computing, and before sending, in each stage.
    """

    schema_version: int = SCHEMA_VERSION
    plan: str
    mode: Mode
    link_name: str
    link_asked: Link | None
    source: Literal["stage1", "sink"] = "stage1"
    sink: Literal["last", "first"] = "last"
    tcp_state: Literal["warm", "cold"] = "warm"
    repeat: int
    emulated: bool
    speed: float
    stage_targets_s: tuple[float, ...] | None = None
    status: Literal["done", "skipped", "failed"]
    reason: str | None = None
    remedy: str | None = None
    started_utc: str | None = None
    link_measured: LinkMeasured | None = None
    control_delay_s: float | None = None
    output_check: OutputCheck | None = None
    subruns: tuple[SubRun, ...] = ()
    tcp_info: tuple[dict[str, Scalar], ...] = ()
    load: tuple[dict[str, Scalar], ...] = ()
    relay: dict[str, Scalar] = {}
    queue_depth: int | None = None

    @property
    def cell_id(self) -> str:
        """The same for the same combination, in any run."""
        return cell_id(
            Plan.parse(self.plan), self.mode, self.link_name, self.link_asked, self.source, self.sink, self.repeat
        )

    def subrun(self, name: str) -> SubRun:
        """The sub-run of that name."""
        for subrun in self.subruns:
            if subrun.name == name:
                return subrun
        raise RecordError(f"cell {self.plan} ({self.mode}): has no sub-run {name!r}; it is {self.status}")

    def latencies_s(self) -> list[float]:
        """Raw latencies that the mode's latency is the statistic of."""
        return [batch.latency_s for batch in self.subrun(self.mode.name).batches]

    def latency_s(self) -> float:
        """The measured counterpart of the predicted latency: mean in `burst`, else the median (DESIGN, modes)."""
        latencies = self.latencies_s()
        return statistics.fmean(latencies) if self.mode.name == "burst" else statistics.median(latencies)

    def throughput_per_s(self) -> float:
        """Images per second: of the saturated sub-run in `paced`, N·B over the makespan in `burst`."""
        images = Plan.parse(self.plan).batch
        if self.mode.name == "single":
            return images / self.latency_s()
        if self.mode.name == "burst":
            batches = self.subrun("burst").batches
            makespan_s = max(b.returned_s for b in batches) - min(b.dispatched_s for b in batches)
            return len(batches) * images / makespan_s
        return images / self.period_s()

    def period_s(self) -> float:
        """Mean interval of completions of the saturated (in `paced`) or the closed sub-run."""
        return completion_period_s(self.subrun("saturated" if self.mode.name == "paced" else self.mode.name).batches)


def completion_period_s(batches: Sequence[BatchRecord]) -> float:
    """Mean interval between completions, seconds."""
    completions = sorted(batch.returned_s for batch in batches)
    if len(completions) < 2:
        raise RecordError(f"period: got {len(completions)} completions, expected 2 or more")
    return (completions[-1] - completions[0]) / (len(completions) - 1)


def cell_id(plan: Plan, mode: Mode, link_name: str, link: Link | None, source: str, sink: str, repeat: int) -> str:
    """Identity of a combination: equal for equal conditions, so that a resumed sweep measures none twice."""
    conditions = (str(plan), mode, link_name, link, source, sink, repeat)
    return hashlib.sha256(msgspec.json.encode(conditions, order="sorted")).hexdigest()[:16]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run ran on: enough to refuse joining it with unlike conditions, and to do it again."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created_utc: str
    command_line: tuple[str, ...]
    testbed: dict[str, Scalar]
    workers: tuple[dict[str, Scalar], ...]
    emulated: bool
    speed: float
    timings: dict[str, str]  # "device/model" → identity of the timing the targets (or predictions) come from
    versions: dict[str, str]
    host: dict[str, Scalar]
    sysctls: dict[str, str]
    qdisc: str
    seed: int
    cells_planned: int
    cells_identity: str = ""  # hash of which cells were planned, in their order: a resumed sweep has the same
    batches_per_cell: int | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder as read: `dropped_lines` counts half-written lines of an interrupted sweep."""

    path: Path
    manifest: Manifest
    cells: tuple[Cell, ...]
    dropped_lines: int = 0

    def latest_cells(self) -> tuple[Cell, ...]:
        """The last record of each combination: a resumed sweep tries again what was skipped or failed."""
        return tuple({cell.cell_id: cell for cell in self.cells}.values())


MANIFEST_NAME = "manifest.json"
CELLS_NAME = "cells.jsonl"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, whole or not at all."""
    unfinished = folder / f".{MANIFEST_NAME}.tmp"
    try:
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        unfinished.replace(folder / MANIFEST_NAME)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def append_cell(folder: Path, cell: Cell) -> None:
    """Append one cell and wait until it is on the disk.

    A half-written last line, left by a crash, is ended first, so that it cannot swallow this one.
    """
    with (folder / CELLS_NAME).open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(msgspec.json.encode(cell) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_run(folder: Path) -> Run:
    """The run in `folder`; lines that a crash left half-written are dropped and counted.

    Raises
    ------
    RecordError : no run there, or of another schema.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=Manifest)
    except OSError as error:
        raise RecordError(
            f"{folder}: holds no {MANIFEST_NAME} ({error.strerror}); expected a folder that hwrun sweep wrote"
        ) from error
    except msgspec.DecodeError as error:
        raise RecordError(f"{folder / MANIFEST_NAME}: {error}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise RecordError(f"{folder}: schema_version: got {manifest.schema_version}, expected {SCHEMA_VERSION}")
    cells: list[Cell] = []
    dropped = 0
    path = folder / CELLS_NAME
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else [], start=1):
        if not line:
            continue
        try:
            cells.append(msgspec.json.decode(line, type=Cell))
        except msgspec.ValidationError as error:
            raise RecordError(f"{path}, line {number}: {error}") from error
        except msgspec.DecodeError:
            dropped += 1
    return Run(path=folder, manifest=manifest, cells=tuple(cells), dropped_lines=dropped)
