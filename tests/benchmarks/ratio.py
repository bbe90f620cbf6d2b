"""Whole processes timed in turn, so that a machine whose speed drifts slows both alike."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """How long one thing takes over another: pairwise ratios of interleaved runs, against a bar."""

    name: str
    ratios: tuple[float, ...]
    bar: float

    @property
    def median(self) -> float:
        """Median of the pairwise ratios."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the median is within the bar."""
        return self.median <= self.bar

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        word = "met" if self.met else "MISSED"
        return (
            f"{self.name}: median {self.median:.2f}× of {len(self.ratios)} pairs ({low:.2f}–{high:.2f}), "
            f"bar {self.bar:.2f}×: {word}"
        )


def process_ratio(name: str, one: Sequence[str], other: Sequence[str], *, pairs: int, bar: float) -> Ratio:
    """Wall time of process `one` over process `other`, run in turn `pairs` times after one warm-up each."""
    for command in (one, other):
        _seconds(command)
    return Ratio(name, tuple(_seconds(one) / _seconds(other) for _ in range(pairs)), bar)


def _seconds(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
