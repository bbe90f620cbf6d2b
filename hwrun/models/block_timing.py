"""Timing the blocks of a chain on this device, and judging whether the numbers may be kept.

One repeat runs every block in sequence with a mark between them, then spans of blocks as stages in one go (the
whole model, and prefixes and suffixes at a few cuts), so that all of them see the same machine. A predictor adds
block times up; how far such sums are from the spans is the timing's error. docs/measuring.md says what an
interval includes.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch

from hwrun.machine.compute_device import Event, Runtime
from hwrun.models.cut import BlockChain
from paretosim.timing import BatchTiming, BlockTiming, SpanTiming

Tensors = tuple[torch.Tensor, ...]
Stage = Callable[..., Tensors]

# A block below this share of the whole pass cannot move a stage time by much, however noisy it is.
SHARE_THAT_MATTERS = 0.05


class Stopwatch(Protocol):
    """Marks points in the work of one device; the times between them are read after the work is done."""

    def mark(self) -> None:
        """Note the present point."""
        ...

    def intervals_s(self) -> list[float]:
        """Seconds between successive marks since the last call; forgets them."""
        ...


class CpuStopwatch:
    """Reads a monotonic clock: work on the CPU is done when the call returns.

    Parameters
    ----------
    clock_ns : nanoseconds that never go back.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self._marks_ns: list[int] = []

    def mark(self) -> None:
        """Note the present point."""
        self._marks_ns.append(self._clock_ns())

    def intervals_s(self) -> list[float]:
        """Seconds between successive marks since the last call; forgets them."""
        marks, self._marks_ns = self._marks_ns, []
        return [(later - earlier) / 1e9 for earlier, later in itertools.pairwise(marks)]


class EventStopwatch:
    """Records events of an accelerator, whose work is only queued when a call returns."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._events: list[Event] = []

    def mark(self) -> None:
        """Note the present point of the device's work."""
        if not self._events:
            self._runtime.synchronize()  # work queued before the first mark is not part of the first interval
        event = self._runtime.event()
        event.record()
        self._events.append(event)

    def intervals_s(self) -> list[float]:
        """Seconds between successive marks since the last call, once the work is done; forgets them."""
        self._runtime.synchronize()
        events, self._events = self._events, []
        return [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(events)]


@dataclass(frozen=True)
class Measured:
    """Raw repeats, in seconds for one batch: of every block, and of blocks [first, last) run in one go."""

    batch: int
    names: tuple[str, ...]
    blocks_s: tuple[tuple[float, ...], ...]
    spans_s: dict[tuple[int, int], tuple[float, ...]]

    @classmethod
    def of(cls, timing: BatchTiming) -> Self:
        """The samples that a timing profile holds of a batch size."""
        return cls(
            batch=timing.batch,
            names=tuple(block.name for block in timing.blocks),
            blocks_s=tuple(block.samples_s for block in timing.blocks),
            spans_s={(span.first, span.last): span.samples_s for span in timing.spans},
        )

    def block_medians_s(self) -> list[float]:
        """Median seconds of each block."""
        return [statistics.median(samples) for samples in self.blocks_s]

    def span_errors(self) -> dict[tuple[int, int], float]:
        """For each span, (sum of its blocks' medians − its own median) / its own median."""
        medians = self.block_medians_s()
        spans = {span: statistics.median(samples) for span, samples in self.spans_s.items()}
        return {(first, last): sum(medians[first:last]) / span_s - 1 for (first, last), span_s in spans.items()}

    def sum_error(self) -> float:
        """Median over the spans of how far the block sums are from them, relative."""
        return statistics.median(abs(error) for error in self.span_errors().values())

    def error(self) -> float:
        """Headline error of a stage time: the larger of `sum_error` and the spread of the whole model's repeats.

        A stage that runs again will differ from its median by about its spread, however well the sums agree.
        """
        return max(self.sum_error(), spread(self.spans_s[0, len(self.names)]))

    def spreads_that_matter(self) -> dict[str, float]:
        """Spread of the whole model run in one go, and of each block with a share of at least 5 % of the pass."""
        medians = self.block_medians_s()
        whole = {"whole model": spread(self.spans_s[0, len(self.names)])}
        return whole | {
            name: spread(samples)
            for name, samples, median in zip(self.names, self.blocks_s, medians, strict=True)
            if median >= SHARE_THAT_MATTERS * sum(medians)
        }

    def worst_spread(self) -> float:
        """The largest of `spreads_that_matter`."""
        return max(self.spreads_that_matter().values())

    def as_batch_timing(self) -> BatchTiming:
        """The samples in the schema of a timing profile."""
        return BatchTiming(
            batch=self.batch,
            blocks=tuple(
                BlockTiming(name=name, samples_s=samples)
                for name, samples in zip(self.names, self.blocks_s, strict=True)
            ),
            spans=tuple(
                SpanTiming(first=first, last=last, samples_s=samples) for (first, last), samples in self.spans_s.items()
            ),
        )


def objections(measured: Measured, max_spread: float, held_back: Sequence[str]) -> list[str]:
    """Why these numbers should not be kept; empty where nothing speaks against them.

    Parameters
    ----------
    max_spread : largest acceptable interquartile range over median of what matters.
    held_back : what held the processor back meanwhile.
    """
    found = []
    if held_back:
        found.append(f"the processor was held back: {'; '.join(held_back)}")
    noisy = {name: value for name, value in measured.spreads_that_matter().items() if value > max_spread}
    if noisy:
        worst = max(noisy, key=lambda name: noisy[name])
        found.append(
            f"the repeats of {len(noisy)} of {len(measured.spreads_that_matter())} things that matter spread more than"
            f" {max_spread:.0%} (interquartile range over median), most {worst}: {noisy[worst]:.0%}"
        )
    return found


def spread(samples: Sequence[float]) -> float:
    """Interquartile range over the median: robust against the few repeats that something interrupted.

    >>> spread([1.0, 1.0, 1.0, 1.0, 9.0])
    0.0
    """
    if len(samples) < 2:
        return float("inf")
    median = statistics.median(samples)
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    if median == 0:
        return 0.0 if first == third else float("inf")
    return (third - first) / median


def measured_spans(blocks: int) -> list[tuple[int, int]]:
    """The whole model, and the prefix and suffix at a third and two thirds of its blocks.

    >>> measured_spans(21)
    [(0, 21), (0, 7), (7, 21), (0, 14), (14, 21)]
    """
    cuts = sorted({round(blocks / 3), round(2 * blocks / 3)} - {0, blocks})
    return [(0, blocks), *(span for cut in cuts for span in ((0, cut), (cut, blocks)))]


def measure_blocks(
    chain: BlockChain,
    inputs: Tensors,
    *,
    repeats: int,
    warmup: int,
    stopwatch: Stopwatch,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """Time the blocks of a chain in sequence, and its spans, `repeats` times after `warmup` that are not kept.

    Parameters
    ----------
    inputs : one batch, on the device that computes; not changed.
    progress : called after each pass with how many are done, and of how many.
    """
    blocks: list[Stage] = [chain.stage(index, index + 1) for index in range(len(chain))]
    spans = {span: chain.stage(*span) for span in measured_spans(len(chain))}
    block_samples: list[list[float]] = []
    span_samples: dict[tuple[int, int], list[float]] = {span: [] for span in spans}
    with torch.inference_mode():
        starts = _span_inputs(blocks, inputs, {first for first, _ in spans})
        for done in range(warmup + repeats):
            kept = done >= warmup
            intervals = _timed(blocks, inputs, stopwatch)
            if kept:
                block_samples.append(intervals)
            # Rotated, so that no span always runs after the same other one.
            for span in _rotated(list(spans), done):
                (seconds,) = _timed([spans[span]], starts[span[0]], stopwatch)
                if kept:
                    span_samples[span].append(seconds)
            progress(done + 1, warmup + repeats)
    return Measured(
        batch=inputs[0].shape[0],
        names=chain.names,
        blocks_s=tuple(zip(*block_samples, strict=True)),
        spans_s={span: tuple(samples) for span, samples in span_samples.items()},
    )


def _span_inputs(blocks: Sequence[Stage], inputs: Tensors, cuts: set[int]) -> dict[int, Tensors]:
    """The live tensors at each of these cuts, copied before the next block may overwrite them."""
    found = {}
    live = _copied(inputs)
    for cut, block in enumerate(blocks):
        if cut in cuts:
            found[cut] = _copied(live)
        live = block(*live)
    return found


def _timed(stages: Sequence[Stage], inputs: Tensors, stopwatch: Stopwatch) -> list[float]:
    """Seconds of each stage, run in sequence on a copy of `inputs`; making the copy is not timed."""
    live = _copied(inputs)
    stopwatch.mark()
    for stage in stages:
        live = stage(*live)
        stopwatch.mark()
    return stopwatch.intervals_s()


def _copied(tensors: Tensors) -> Tensors:
    return tuple(tensor.clone() for tensor in tensors)


def _rotated(items: list[tuple[int, int]], by: int) -> Iterator[tuple[int, int]]:
    by %= len(items)
    yield from items[by:]
    yield from items[:by]
