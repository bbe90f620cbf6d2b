"""Scores: how far predictions are from measurements, in numbers that can be recomputed by hand.

Errors are relative to the measurement and signed: (predicted − measured) / measured. All scores are fractions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from validation.join import Comparison
from validation.measured import Quantity, relative_error

WITHIN = 0.10


@dataclass(frozen=True)
class ErrorScore:
    """Errors of one quantity over some cells.

    `mape` is the mean of the errors' sizes, `p90` their 90th percentile (linear between order statistics),
    `bias` the median signed error, `within` the share of cells at most 10 % off. `noise_floor` is the median of
    the cells' own, None where no cell has one; `noise_bases` says what they were taken from.
    """

    cells: int
    mape: float
    p90: float
    bias: float
    within: float
    noise_floor: float | None
    noise_bases: tuple[str, ...]


def error_score(errors: Sequence[float], quantities: Sequence[Quantity] = ()) -> ErrorScore | None:
    """Score of signed relative errors, with the noise floors of `quantities`; None of nothing.

    >>> error_score([0.1, -0.3]).mape
    0.2
    """
    if not errors:
        return None
    sizes = [abs(error) for error in errors]
    floors = [quantity.noise_floor for quantity in quantities if quantity.noise_floor is not None]
    return ErrorScore(
        cells=len(errors),
        mape=statistics.fmean(sizes),
        p90=float(np.percentile(sizes, 90)),
        bias=statistics.median(errors),
        within=sum(size <= WITHIN for size in sizes) / len(sizes),
        noise_floor=statistics.median(floors) if floors else None,
        noise_bases=tuple(sorted({quantity.noise_basis for quantity in quantities})),
    )


@dataclass(frozen=True)
class Scores:
    """Of the prediction and of the baselines, over the same cells; None where there is nothing to score."""

    latency: ErrorScore | None
    throughput: ErrorScore | None
    transfer: ErrorScore | None
    additive_latency: ErrorScore | None
    additive_throughput: ErrorScore | None
    overlap_throughput: ErrorScore | None


def score(comparisons: Sequence[Comparison]) -> Scores:
    """Scores over `comparisons`."""
    latencies = [c.latency for c in comparisons]
    throughputs = [c.throughput for c in comparisons]
    transfers = [c.transfer for c in comparisons if c.transfer is not None]
    return Scores(
        latency=_score(latencies, [q.predicted for q in latencies]),
        throughput=_score(throughputs, [q.predicted for q in throughputs]),
        transfer=_score(transfers, [q.predicted for q in transfers]),
        additive_latency=_score(latencies, [c.baselines.additive_latency_s for c in comparisons]),
        additive_throughput=_score(throughputs, [c.baselines.additive_throughput_per_s for c in comparisons]),
        overlap_throughput=_score(throughputs, [c.baselines.overlap_throughput_per_s for c in comparisons]),
    )


def _score(quantities: Sequence[Quantity], predicted: Sequence[float]) -> ErrorScore | None:
    found = [(relative_error(p, q.measured), q) for q, p in zip(quantities, predicted, strict=True)]
    kept = [(error, q) for error, q in found if error is not None]
    return error_score([error for error, _ in kept], [q for _, q in kept])


@dataclass(frozen=True)
class RankAgreement:
    """Kendall's τ-b of predicted against measured order, over pairs whose measured ranges do not overlap.

    `tau` is None where no pair is left, or where all of them are predicted equal.
    """

    tau: float | None
    pairs: int
    pairs_overlapping: int


def rank_agreement(quantities: Sequence[Quantity]) -> RankAgreement:
    """Agreement in order of one quantity over the splits of a condition.

    Pairs whose ranges overlap cannot be told apart by the measurement, so neither order of them is wrong. Those
    left have no measured ties, so τ-b = (C − D) / √((C + D)(C + D + T)) with T pairs predicted equal.

    Source: Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945).
    """
    concordant = discordant = tied = overlapping = 0
    for a, b in combinations(quantities, 2):
        if max(a.low, b.low) <= min(a.high, b.high):
            overlapping += 1
            continue
        agreement = np.sign(a.measured - b.measured) * np.sign(a.predicted - b.predicted)
        concordant += int(agreement > 0)
        discordant += int(agreement < 0)
        tied += int(agreement == 0)
    ordered = concordant + discordant
    tau = (concordant - discordant) / math.sqrt(ordered * (ordered + tied)) if ordered else None
    return RankAgreement(tau=tau, pairs=ordered + tied, pairs_overlapping=overlapping)
