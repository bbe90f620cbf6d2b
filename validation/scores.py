"""Scores: how far predictions are from measurements, in numbers that can be recomputed by hand.

Errors are relative to the measurement and signed: (predicted − measured) / measured. All scores are fractions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from validation.comparing import Comparison
from validation.measured import Quantity, relative_error
from validation.resampling import Draws

Array = NDArray[np.float64]
WITHIN = 0.10
# Rounding alone must not put a cell that is off by exactly the limit beyond it.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class ErrorScore:
    """Errors of one quantity over some cells.

    `mape` is the mean of the errors' sizes, `p90` their 90th percentile (linear between order statistics),
    `bias` the median signed error, `within` the share of cells at most 10 % off. `noise_floor` is the median of
    the cells' own, None where no cell has one; `noise_bases` says what they were taken from. `intervals` are those
    of the bootstrap, by the score's name.
    """

    cells: int
    mape: float
    p90: float
    bias: float
    within: float
    noise_floor: float | None
    noise_bases: tuple[str, ...]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def error_score(
    errors: Sequence[float], quantities: Sequence[Quantity] = (), resampled: tuple[Draws, Array] | None = None
) -> ErrorScore | None:
    """Score of signed relative errors, with the noise floors of `quantities`; None of nothing.

    Parameters
    ----------
    resampled : the draws, and what the errors were in each of them, (resamples, cells); NaN where not drawn.

    >>> error_score([0.1, -0.3]).mape
    0.2
    """
    if not errors:
        return None
    floors = [quantity.noise_floor for quantity in quantities if quantity.noise_floor is not None]
    found = {name: float(score(np.array([errors]))[0]) for name, score in _SCORES.items()}
    intervals = {}
    if resampled is not None:
        draws, drawn = resampled
        intervals = {
            name: draws.around(
                found[name], scores, least=-math.inf if name == "bias" else 0.0, most=_MOST.get(name, math.inf)
            )
            for name, scores in _resampled_scores(drawn).items()
        }
    return ErrorScore(
        cells=len(errors),
        mape=found["mape"],
        p90=found["p90"],
        bias=found["bias"],
        within=found["within"],
        noise_floor=statistics.median(floors) if floors else None,
        noise_bases=tuple(sorted({quantity.noise_basis for quantity in quantities})),
        intervals=intervals,
    )


# Almost no rows hold NaN, and NumPy takes 4 to 200 times as long where they may.


def _p90(errors: Array) -> Array:
    sizes = np.abs(errors)
    percentile = np.nanpercentile if np.isnan(sizes).any() else np.percentile
    return np.asarray(percentile(sizes, 90, axis=1))


def _bias(errors: Array) -> Array:
    median = np.nanmedian if np.isnan(errors).any() else np.median
    return np.asarray(median(errors, axis=1))


def _within(errors: Array) -> Array:
    close = np.where(np.isnan(errors), np.nan, np.abs(errors) <= WITHIN + _ROUNDING)
    return np.asarray(np.nanmean(close, axis=1))


# Each of rows of errors, which may hold NaN: cells that a resample has no repeat of.
_SCORES: dict[str, Callable[[Array], Array]] = {
    "mape": lambda errors: np.asarray(np.nanmean(np.abs(errors), axis=1)),
    "p90": _p90,
    "bias": _bias,
    "within": _within,
}


# What no share exceeds.
_MOST = {"within": 1.0}


def _resampled_scores(errors: Array) -> dict[str, Array]:
    """Every score of each row that knows an error at all."""
    known = errors[~np.isnan(errors).all(axis=1)]
    return {name: score(known) for name, score in _SCORES.items()} if len(known) else {}


@dataclass(frozen=True)
class Scores:
    """Of the prediction and of the baselines, over the same cells; None where there is nothing to score."""

    latency: ErrorScore | None
    throughput: ErrorScore | None
    transfer: ErrorScore | None
    additive_latency: ErrorScore | None
    additive_throughput: ErrorScore | None
    overlap_throughput: ErrorScore | None


def score(comparisons: Sequence[Comparison], draws: Draws | None = None) -> Scores:
    """Scores over `comparisons`, with intervals where `draws` are given, which are of those very cells.

    A transfer phase is scored for every hop that was timed.
    """
    cells = list(range(len(comparisons)))
    latencies = [c.latency for c in comparisons]
    throughputs = [c.throughput for c in comparisons]
    timed = [cell for cell in cells for _ in comparisons[cell].transfers]
    transfers = [transfer for c in comparisons for transfer in c.transfers]

    def scored(quantities: Sequence[Quantity], predicted: Sequence[float], of: Sequence[int]) -> ErrorScore | None:
        return quantity_score(quantities, predicted, None if draws is None else draws.of(of))

    return Scores(
        latency=scored(latencies, [q.predicted for q in latencies], cells),
        throughput=scored(throughputs, [q.predicted for q in throughputs], cells),
        transfer=scored(transfers, [q.predicted for q in transfers], timed),
        additive_latency=scored(latencies, [c.baselines.additive_latency_s for c in comparisons], cells),
        additive_throughput=scored(throughputs, [c.baselines.additive_throughput_per_s for c in comparisons], cells),
        overlap_throughput=scored(throughputs, [c.baselines.overlap_throughput_per_s for c in comparisons], cells),
    )


def quantity_score(
    quantities: Sequence[Quantity], predicted: Sequence[float], draws: Draws | None = None
) -> ErrorScore | None:
    """Score of some predictions of measured quantities; None where none of them can be compared."""
    found = [relative_error(p, q.measured) for q, p in zip(quantities, predicted, strict=True)]
    kept = [place for place, error in enumerate(found) if error is not None]
    errors = [error for error in found if error is not None]
    chosen = [quantities[place] for place in kept]
    if draws is None or draws.level == "nothing" or not kept:
        return error_score(errors, chosen)
    own = draws.of(kept)
    measured = own.medians([quantity.values for quantity in chosen])
    resampled = (np.array([predicted[place] for place in kept]) - measured) / measured
    return error_score(errors, chosen, (own, resampled))
