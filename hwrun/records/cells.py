"""What a cell leaves behind: raw timestamps of its batches, and what was seen beside them. Pure: values alone.

Statistics are computed from raw timestamps on read. Each timestamp is of the monotonic clock of the process that took
it; only differences within one process mean anything.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from hwrun.errors import RecordError
from hwrun.records.links import LinkMeasured, Scalar
from hwrun.records.workers import WorkerWatch
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.plan import Plan

SCHEMA_VERSION = 1
# How a worker shares its time: receiving and sending beside computing, or one after the other (the paper's).
WorkerKind = Literal["overlapped", "serial"]
# How batches travel from stage to stage; a plan names one.
BackendName = Literal["tcp", "rpc", "memory"]
# What a stage computes on: the processor, or an accelerator by torch's name for it.
ComputeDevice = Literal["cpu", "cuda", "mps"]
# Where inputs are; where results are wanted; whether connections have carried batches before.
Source = Literal["stage1", "sink"]
Sink = Literal["last", "first"]
TcpState = Literal["warm", "cold"]


class Phases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one stage did for one batch, in seconds of that worker's monotonic clock.

    docs/measuring.md says what each interval includes. None where the stage has no such phase (stage 1
    receives nothing when the data is already there). `overrun` marks an emulated stage whose host was slower
    than its target. `copy_in_s` and `copy_out_s` are the parts of the compute phase that copying to an accelerator and
    back took, by its own clock; None on the processor.
    """

    receive_start_s: float | None = None
    receive_end_s: float | None = None
    compute_start_s: float
    compute_end_s: float
    send_start_s: float
    send_end_s: float
    overrun: bool = False
    copy_in_s: float | None = None
    copy_out_s: float | None = None


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


class SocketBuffers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SO_SNDBUF of a hop's sending and SO_RCVBUF of its receiving socket after the last batch, as the kernel says them.

    It counts its own bookkeeping too (socket(7)) and tunes both while data flow, so the payload that fits is less.
    None where the hop has no such socket, or the backend does not show it.
    """

    send_bytes: int | None = None
    receive_bytes: int | None = None


class OutputCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pipeline's output against the unsplit model's, on the same input."""

    bitwise_equal: bool
    max_abs_difference: float
    relative_difference: float


class Accuracy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Images whose label had the largest output: of those that crossed the pipeline, and of more by the unsplit model.

    The pipeline's outputs are the unsplit model's, which the output check says of every cell; so what many images tell
    of the one holds for the other, and need not cross a slow link.
    """

    correct: int
    images: int
    unsplit_correct: int
    unsplit_images: int

    @property
    def top1(self) -> float:
        """Share of the images that the unsplit model has right."""
        return self.unsplit_correct / self.unsplit_images


class Combination(msgspec.Struct, frozen=True, kw_only=True):
    """What, beside its plan and the links asked of it, tells a cell from all others, planned or measured."""

    mode: Mode
    link_name: str
    hosts: tuple[str, ...] = ()
    source: Source = "stage1"
    sink: Sink = "last"
    tcp_state: TcpState = "warm"
    workers: WorkerKind = "overlapped"
    repeat: int

    def _id(self, plan: Plan, links: tuple[Link | None, ...]) -> str:
        """Equal for equal conditions, in any run, so that a resumed sweep measures none twice.

        The backend and the wire's dtype are the plan's. `links` are those of `Cell.links_asked`.
        """
        conditions = (
            str(plan), self.mode, self.link_name, links, self.hosts, self.source, self.sink, self.tcp_state,
            self.workers, self.repeat,
        )  # fmt: skip
        return hashlib.sha256(msgspec.json.encode(conditions, order="sorted")).hexdigest()[:16]


class Cell(Combination, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured (or skipped, or failed) combination of plan, mode, links, workers and repeat.

    A hop lies between two stages. `link_asked` is that of the first hop, the only one of two stages;
    `later_links_asked` are those of the hops after it and then, where a chain of more than two stages needs a way back
    from its last host to its first (or inputs travel to it), that of this way, seen from the first host. None is an
    unshaped link, and a hop within one host. `hosts` names the host of each stage of the plan; empty is a host for
    each. `link_measured` and `later_links_measured` are what probes found of the hops.

    `stage_targets_s` are the emulated stages' target times, already divided by `speed`; None where stages compute for
    real. Skipped and failed cells carry `reason` and `remedy`. `tcp_info` is of each stage's sending socket after the
    last batch, empty where that is no TCP socket; `buffers` has an entry for each hop between stages that take part.
    `relay` is what a shaped link's relay counted meanwhile, `load` the use of the orchestrator's machine, `watched`
    what each worker sampled of itself and its host. `queue_depth` batches may wait
    before computing, and before sending, in each stage of overlapped workers. `computed_on` says of each stage that
    takes part what its worker computed on, None where it only took a device's time or had nothing to compute.
    """

    schema_version: int = SCHEMA_VERSION
    plan: str
    link_asked: Link | None
    later_links_asked: tuple[Link | None, ...] = ()
    emulated: bool
    speed: float
    stage_targets_s: tuple[float, ...] | None = None
    status: Literal["done", "skipped", "failed"]
    reason: str | None = None
    remedy: str | None = None
    started_utc: str | None = None
    link_measured: LinkMeasured | None = None
    later_links_measured: tuple[LinkMeasured | None, ...] = ()
    control_delay_s: float | None = None
    output_check: OutputCheck | None = None
    accuracy: Accuracy | None = None
    subruns: tuple[SubRun, ...] = ()
    tcp_info: tuple[dict[str, Scalar], ...] = ()
    buffers: tuple[SocketBuffers, ...] = ()
    load: tuple[dict[str, Scalar], ...] = ()
    relay: dict[str, Scalar] = {}
    watched: tuple[WorkerWatch, ...] = ()
    queue_depth: int | None = None
    computed_on: tuple[str | None, ...] = ()

    @property
    def cell_id(self) -> str:
        """The same for the same combination, in any run."""
        return self._id(Plan.parse(self.plan), self.links_asked)

    @property
    def links_measured(self) -> tuple[LinkMeasured | None, ...]:
        """Of every hop in order: None within a host, and all missing where nothing was probed."""
        return (self.link_measured, *self.later_links_measured)

    @property
    def links_asked(self) -> tuple[Link | None, ...]:
        """Of every hop in order, and then of the way back where there is one of its own."""
        return (self.link_asked, *self.later_links_asked)

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
