"""How long something takes against a bar in seconds, where a person's patience is all there is to hold it against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Seconds:
    """Times of repeated runs of one thing, against a bar; `notes` are lines of what else was seen."""

    name: str
    runs_s: tuple[float, ...]
    bar_s: float
    notes: tuple[str, ...] = ()

    @property
    def median_s(self) -> float:
        """Median of the runs."""
        return statistics.median(self.runs_s)

    @property
    def met(self) -> bool:
        """Whether the median is within the bar."""
        return self.median_s <= self.bar_s

    def __str__(self) -> str:
        word = "met" if self.met else "MISSED"
        first = (
            f"{self.name}: median {self.median_s:.3f} s of {len(self.runs_s)} runs"
            f" ({min(self.runs_s):.3f}–{max(self.runs_s):.3f}), bar {self.bar_s:g} s: {word}"
        )
        return "\n".join([first, *(f"    {note}" for note in self.notes)])


def runs_s(task: Callable[[], object], runs: int) -> tuple[float, ...]:
    """Wall time of each of so many runs, after one that does not count."""
    task()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        task()
        found.append(time.perf_counter() - start)
    return tuple(found)
