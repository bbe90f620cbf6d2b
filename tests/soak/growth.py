"""Whether what a process holds grows: a robust slope through samples of it, held against a stated bound. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Importing, the first deployments and buffers that TCP tunes all lie in the first part of a run.
SETTLING_SHARE = 0.2
# What may be gained in an hour. A batch that left one page behind would gain gigabytes; the allocator's own breathing
# is a few mebibytes. Counted things may not grow at all: a slope of half a thing in an hour is rounding.
BOUNDS_PER_HOUR: Mapping[str, float] = {
    "rss_bytes": 32 * 2**20,
    "kernel_tcp_bytes": 8 * 2**20,
    "threads": 0.5,
    "descriptors": 0.5,
    "sockets": 0.5,
}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one process held at one time; `kernel_tcp_bytes` are those that the kernel holds for its TCP sockets."""

    time_s: float
    process: str
    batches: int
    rss_bytes: int
    kernel_tcp_bytes: int
    threads: int
    descriptors: int
    sockets: int


@dataclass(frozen=True)
class Growth:
    """How one figure of one process went: its range after settling, and its slope in an hour."""

    process: str
    figure: str
    least: float
    most: float
    per_hour: float

    @property
    def holds(self) -> bool:
        """Whether the slope is within its bound."""
        return self.per_hour <= BOUNDS_PER_HOUR[self.figure]


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Median of the slopes of all pairs (Theil, Sen): up to 29 % of the samples may be anything.

    >>> slope([0, 1, 2, 3, 4], [10, 12, 14, 900, 18])
    2.0
    """
    pairs = itertools.combinations(zip(times, values, strict=True), 2)
    return statistics.median((b - a) / (after - before) for (before, a), (after, b) in pairs if after > before)


def growths(samples: Sequence[Sample]) -> list[Growth]:
    """Every figure of every process, from samples of one run.

    Raises
    ------
    ValueError : too few samples to tell.
    """
    end_s = max(sample.time_s for sample in samples)
    begin_s = min(sample.time_s for sample in samples)
    settled_s = begin_s + SETTLING_SHARE * (end_s - begin_s)
    found = []
    for process in dict.fromkeys(sample.process for sample in samples):
        own = [sample for sample in samples if sample.process == process and sample.time_s >= settled_s]
        if len(own) < 8:
            raise ValueError(f"{process}: {len(own)} samples after settling, expected 8 or more; run longer")
        hours = [sample.time_s / 3600 for sample in own]
        for figure in BOUNDS_PER_HOUR:
            values = [float(getattr(sample, figure)) for sample in own]
            found.append(Growth(process, figure, min(values), max(values), slope(hours, values)))
    return found
