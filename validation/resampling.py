"""Bootstrap: how far scores would have moved, had the same measurements been made again.

What is drawn anew, with replacement, are whole runs where every cell was measured in at least two of them: a run has
one placement of processes, one boot, one day, and its repeats share it. Otherwise the repeats of each cell are drawn,
and the report says so; batches within a repeat never are, for they are not independent of each other. Cells stay
as they are: an interval says what noise does to a score of these cells, not what other cells would have shown.

An error is an absolute value, which noise only adds to, and a resample holds that noise once more than the measurement
does. So the middle of the resampled scores is no estimate of anything, and their percentiles may miss even the score
itself; what they show is how far it moves. Intervals of errors are therefore the deviations of the resampled scores
from their mean, around the score. They hold what the same measurement would show on average, its noise included. Of
whole runs, R of them, resamples spread by √((R − 1) / R) too little, which is put right.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 6, 8.4 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paretosim.errors import BadInputError

Array = NDArray[np.float64]
Level = Literal["runs", "repeats", "nothing"]
MOST_RESAMPLES = 100_000


@dataclass(frozen=True)
class Resampling:
    """How many times scores are computed anew, from which seed, and how much of them an interval covers.

    Of 0 resamples there are no intervals.
    """

    resamples: int = 500
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples and not 2 <= self.resamples <= MOST_RESAMPLES:
            raise BadInputError(
                f"resamples: got {self.resamples}, expected 2 to {MOST_RESAMPLES}, or 0 for no intervals"
            )
        if not 0 <= self.seed < 2**63:
            raise BadInputError(f"seed: got {self.seed}, expected a whole number of 0 or more, below 2^63")
        if not 0 < self.confidence < 1:
            raise BadInputError(f"confidence: got {self.confidence}, expected a share above 0 and below 1")


DEFAULT_RESAMPLING = Resampling()


@dataclass(frozen=True)
class Draws:
    """What was drawn: per cell, which of its repeats each resample holds.

    `indices[c]` is of shape (resamples, drawn): places in the cell's values, −1 for none. `level` says what was
    drawn, "nothing" where every cell has one repeat or no resample was asked for, so that no interval exists.
    `widening` is what deviations are multiplied by, as few runs spread too little when drawn again.
    """

    level: Level
    confidence: float
    indices: tuple[NDArray[np.int64], ...]
    widening: float = 1.0

    def medians(self, values: Sequence[Sequence[float]]) -> Array:
        """Each resample's measured values, (resamples, cells); NaN where a resample holds no repeat of a cell."""
        columns = [_medians(np.asarray(cell), drawn) for cell, drawn in zip(values, self.indices, strict=True)]
        return np.stack(columns, axis=1)

    def of(self, cells: Sequence[int]) -> Draws:
        """Those of some cells alone."""
        return replace(self, indices=tuple(self.indices[cell] for cell in cells))

    def interval(self, scores: Array) -> tuple[float, float] | None:
        """The middle `confidence` of a score's resamples, (resamples,); None where nothing was drawn or known."""
        known = scores[~np.isnan(scores)]
        if self.level == "nothing" or not known.size:
            return None
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(known, (tail, 1 - tail))
        return float(low), float(high)

    def around(self, score: float, scores: Array, *, least: float = 0.0, most: float = math.inf) -> tuple[float, float]:
        """How far a score of errors moves: the middle `confidence` of its resamples about their mean, put around it.

        Parameters
        ----------
        scores : (resamples,), none of them NaN.
        least, most : what the score cannot fall below or exceed.
        """
        tail = (1 - self.confidence) / 2
        low, high = self.widening * (np.quantile(scores, (tail, 1 - tail)) - scores.mean())
        # The mean of resamples is not their median: an interval that left out the score itself would say nothing.
        return max(least, score + min(float(low), 0.0)), min(most, score + max(float(high), 0.0))

    def intervals(self, scores: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
        """Those that exist, by the score's name."""
        found = {name: self.interval(values) for name, values in scores.items()}
        return {name: interval for name, interval in found.items() if interval is not None}


def draw(runs: Sequence[Sequence[str]], resampling: Resampling) -> Draws:
    """Draw runs or repeats for cells whose repeats come from those runs.

    Parameters
    ----------
    runs : per cell, the run of each of its repeats.

    >>> draw([["a", "a"], ["a"]], Resampling()).level, draw([["a", "b"]], Resampling()).level
    ('repeats', 'runs')
    """
    random = np.random.default_rng(resampling.seed)
    if not resampling.resamples:
        return Draws("nothing", resampling.confidence, tuple(np.empty((0, len(cell)), dtype=np.int64) for cell in runs))
    if runs and all(len(set(of_cell)) > 1 for of_cell in runs):
        names = list(dict.fromkeys(run for of_cell in runs for run in of_cell))
        chosen = random.integers(0, len(names), (resampling.resamples, len(names)))
        indices = tuple(_of_runs(of_cell, names, chosen) for of_cell in runs)
        return Draws("runs", resampling.confidence, indices, math.sqrt(len(names) / (len(names) - 1)))
    indices = tuple(random.integers(0, len(cell), (resampling.resamples, len(cell))) for cell in runs)
    level: Level = "repeats" if any(len(of_cell) > 1 for of_cell in runs) else "nothing"
    return Draws(level, resampling.confidence, indices)


def _of_runs(of_cell: Sequence[str], names: Sequence[str], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """All repeats of the chosen runs, (resamples, runs · most repeats of any), −1 where a run has fewer."""
    places = [[place for place, run in enumerate(of_cell) if run == name] for name in names]
    most = max(map(len, places))
    table = np.array([[*found, *[-1] * (most - len(found))] for found in places])
    return table[chosen].reshape(len(chosen), -1)


def _medians(values: Array, drawn: NDArray[np.int64]) -> Array:
    if (drawn >= 0).all():
        return np.asarray(np.median(values[drawn], axis=1))
    held = np.where(drawn >= 0, values[drawn], np.nan)
    medians = np.full(len(held), np.nan)
    some = ~np.isnan(held).all(axis=1)
    medians[some] = np.nanmedian(held[some], axis=1)
    return medians
