"""What was measured: a record's own statistics, and a quantity over its repeats with its noise floor."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from hwrun.records import BatchRecord, Cell, OutputCheck
from paretosim.plan import Plan

NoiseBasis = Literal["between repeats", "within one repeat", "unknown"]
# Scales a median absolute deviation to the standard deviation of a normal distribution (1 / Φ⁻¹(3/4)).
MAD_TO_SIGMA = 1.4826
# Fewer samples than this have no spread worth the name.
FEWEST_SAMPLES = 3
# Less than this (of a second) is no time.
NOTHING = 1e-9


@dataclass(frozen=True)
class Repeat:
    """One record: latency and throughput as DESIGN's modes define them, and the raw samples they come from.

    Samples are per batch, seconds. `compute_samples_s` has a tuple per stage, `transfer_samples_s` one per hop between
    the stages that took part; None where the ends of a hop share no clock, or where batches queue for it.
    `retransmits` is TCP's own count. `run_id` is that of the run that holds the record.
    """

    run_id: str
    cell_id: str
    repeat: int
    started_utc: str | None
    latency_s: float
    throughput_per_s: float
    latency_samples_s: tuple[float, ...]
    interval_samples_s: tuple[float, ...]
    compute_samples_s: tuple[tuple[float, ...], ...]
    transfer_samples_s: tuple[tuple[float, ...], ...] | None
    overruns: int
    stage_runs: int
    retransmits: int | None
    control_delay_s: float | None
    output_check: OutputCheck | None


@dataclass(frozen=True)
class Quantity:
    """A measured value (median of `values`, one a repeat) with its range and noise floor, beside the predicted one.

    `noise_floor` is relative: half the range over repeats, or, with one repeat, the scaled median absolute
    deviation of its own samples; None where there are too few of them.
    """

    values: tuple[float, ...]
    measured: float
    predicted: float
    low: float
    high: float
    noise_floor: float | None
    noise_basis: NoiseBasis

    @property
    def error(self) -> float | None:
        """(predicted − measured) / measured; None where there is nothing to predict or measure: an empty stage."""
        return relative_error(self.predicted, self.measured)


def relative_error(predicted: float, measured: float) -> float | None:
    """(predicted − measured) / measured; None where either is nothing.

    An empty stage, or a link that is memory, is predicted to take no time and takes a microsecond: −100 % of that would
    say nothing.

    >>> relative_error(0.9, 1.2)
    -0.25
    """
    return round((predicted - measured) / measured, 15) if measured > 0 and predicted > NOTHING else None


def quantity(per_repeat: Sequence[float], samples: Sequence[float], predicted: float) -> Quantity:
    """The quantity that has one value per repeat, and `samples` within the first of them."""
    measured = statistics.median(per_repeat)
    floor, basis = noise_floor(per_repeat, samples)
    low, high = min(per_repeat), max(per_repeat)
    if basis == "within one repeat" and floor is not None:
        low, high = measured * (1 - floor), measured * (1 + floor)
    return Quantity(
        values=tuple(per_repeat), measured=measured, predicted=predicted, low=low, high=high, noise_floor=floor,
        noise_basis=basis,
    )  # fmt: skip


def noise_floor(per_repeat: Sequence[float], within: Sequence[float]) -> tuple[float | None, NoiseBasis]:
    """Relative spread below which an error means nothing, and what it was taken from.

    Half the range over the repeats; with a single one, the median absolute deviation of its own samples,
    scaled to a standard deviation.

    >>> noise_floor([1.0, 1.25, 0.75], [])
    (0.25, 'between repeats')
    """
    if len(per_repeat) > 1:
        middle = statistics.median(per_repeat)
        return ((max(per_repeat) - min(per_repeat)) / 2 / middle if middle else None), "between repeats"
    if len(within) < FEWEST_SAMPLES or not (centre := statistics.median(within)):
        return None, "unknown"
    return MAD_TO_SIGMA * statistics.median(abs(sample - centre) for sample in within) / centre, "within one repeat"


def repeat_of(cell: Cell, run_id: str, *, transfers_seen: bool) -> Repeat:
    """A done cell's statistics; transfer phases only where `transfers_seen` says that they can be timed."""
    own = cell.subrun(cell.mode.name).batches
    pacing = cell.subrun("saturated").batches if cell.mode.name == "paced" else own
    latencies = tuple(batch.latency_s for batch in own)
    stage_runs = [stage for subrun in cell.subruns for batch in subrun.batches for stage in batch.stages]
    return Repeat(
        run_id=run_id,
        cell_id=cell.cell_id,
        repeat=cell.repeat,
        started_utc=cell.started_utc,
        latency_s=cell.latency_s(),
        throughput_per_s=cell.throughput_per_s(),
        latency_samples_s=latencies,
        interval_samples_s=latencies if cell.mode.name == "single" else _intervals_s(pacing),
        compute_samples_s=tuple(
            tuple(_compute_s(batch, k) for batch in own) for k in range(len(Plan.parse(cell.plan).stages))
        ),
        transfer_samples_s=_transfers_s(own) if transfers_seen else None,
        overruns=sum(stage.overrun for stage in stage_runs),
        stage_runs=len(stage_runs),
        retransmits=_retransmits(cell),
        control_delay_s=cell.control_delay_s,
        output_check=cell.output_check,
    )


def _compute_s(batch: BatchRecord, stage: int) -> float:
    """Seconds of one stage's compute phase; 0 of a trailing empty stage, which takes no part with the sink first."""
    if stage >= len(batch.stages):
        return 0.0
    return batch.stages[stage].compute_end_s - batch.stages[stage].compute_start_s


def _retransmits(cell: Cell) -> int | None:
    """Segments that TCP sent again, over the cell's connections; None where not recorded."""
    counts = [info["retransmits"] for info in cell.tcp_info if isinstance(info.get("retransmits"), int)]
    return sum(int(count) for count in counts if count is not None) if counts else None


def _intervals_s(batches: Sequence[BatchRecord]) -> tuple[float, ...]:
    completions = sorted(batch.returned_s for batch in batches)
    return tuple(after - before for before, after in pairwise(completions))


def _transfers_s(batches: Sequence[BatchRecord]) -> tuple[tuple[float, ...], ...] | None:
    """Per hop, from the first byte out of a stage to the last byte in the next one, per batch; of one clock only.

    None if none cross.
    """
    hops = min((len(batch.stages) for batch in batches), default=0) - 1
    samples: list[tuple[float, ...]] = []
    for hop in range(hops):
        ends = [(batch.stages[hop].send_start_s, batch.stages[hop + 1].receive_end_s) for batch in batches]
        samples.append(tuple(arrived_s - left_s for left_s, arrived_s in ends if arrived_s is not None))
    return tuple(samples) if samples and all(len(of_hop) == len(batches) for of_hop in samples) else None
