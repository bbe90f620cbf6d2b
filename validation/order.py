"""Order: whether predictions rank plans as measurements do, over pairs that the measurement itself can tell apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from validation.measured import Quantity


@dataclass(frozen=True)
class Inversion:
    """Two plans in the wrong order: `larger` was measured larger than `smaller`, and predicted smaller."""

    larger: str
    smaller: str
    measured: tuple[float, float]
    predicted: tuple[float, float]


@dataclass(frozen=True)
class RankAgreement:
    """Kendall's τ-b of predicted against measured order, over pairs whose measured ranges do not overlap.

    `tau` is None where no pair is left, or where all of them are predicted equal. It has no interval over repeats: a
    separable pair has every repeat of one side above every one of the other, so no draw of them turns it round.
    """

    tau: float | None
    pairs: int
    pairs_overlapping: int
    inversions: tuple[Inversion, ...]


def rank_agreement(quantities: Sequence[Quantity], labels: Sequence[str]) -> RankAgreement:
    """Agreement in order of one quantity over the plans of a condition, which `labels` name.

    Pairs whose ranges overlap cannot be told apart by the measurement, so neither order of them is wrong. Those
    left have no measured ties, so τ-b = (C − D) / √((C + D)(C + D + T)) with T pairs predicted equal.

    Source: Kendall, The treatment of ties in ranking problems, Biometrika 33 (1945).
    """
    concordant = tied = overlapping = 0
    inversions = []
    for pair in combinations(zip(quantities, labels, strict=True), 2):
        (large, larger), (small, smaller) = sorted(pair, key=lambda entry: entry[0].measured, reverse=True)
        if small.high >= large.low:
            overlapping += 1
            continue
        agreement = np.sign(large.predicted - small.predicted)
        concordant += int(agreement > 0)
        tied += int(agreement == 0)
        if agreement < 0:
            values = (large.measured, small.measured), (large.predicted, small.predicted)
            inversions.append(Inversion(larger, smaller, *values))
    discordant = len(inversions)
    ordered = concordant + discordant
    tau = (concordant - discordant) / math.sqrt(ordered * (ordered + tied)) if ordered else None
    return RankAgreement(
        tau=tau, pairs=ordered + tied, pairs_overlapping=overlapping, inversions=tuple(inversions)
    )  # fmt: skip
