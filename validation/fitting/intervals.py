"""How sure fitted parameters are: the bootstrap, on the model as it is near the optimum.

What is drawn anew are whole runs where every point was measured in several; else the repeats of each cell; else, with
one repeat, cells. Batches within a repeat are not independent, and never are. Each resample is fitted again with the
same robust loss and bounds; the logarithms of predictions are taken as linear in the parameters there, so that a
resample costs milliseconds and not seconds. Means over n draws of n spread by √((n − 1) / n) too little, which
is put right.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 6 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from validation.fitting.least_squares import Optimum, Problem
from validation.fitting.observations import Observation

Array = NDArray[np.float64]
DrawnLevel = Literal["runs", "repeats", "cells"]
RESAMPLES = 200


@dataclass(frozen=True)
class Intervals:
    """Ends of each parameter in its scale, (parameters,), and what was drawn."""

    low: Array
    high: Array
    level: DrawnLevel


def intervals(
    problem: Problem, optimum: Optimum, observations: Sequence[Observation], *, confidence: float, seed: int
) -> Intervals:
    """The middle `confidence` of what the parameters are in resamples."""
    level, groups, blocks = _blocks(observations)
    random = np.random.default_rng(seed)
    jacobian = optimum.log_slopes[problem.place] / problem.spread[:, np.newaxis]
    here = problem.residuals(optimum.values)
    least, most = problem.least - optimum.values, problem.most - optimum.values
    moves = np.empty((RESAMPLES, len(optimum.values)))
    for resample in range(RESAMPLES):
        counts = np.zeros(len(observations))
        for members in groups:
            drawn = random.integers(0, len(members), len(members))
            for chosen in drawn:
                counts[blocks[members[chosen]]] += 1
        # Soft L1 as weights: of residuals that are linear in the parameters, two rounds from the optimum are enough.
        move = np.zeros(len(optimum.values))
        for _ in range(2):
            residuals = here + jacobian @ move
            weights = np.sqrt(counts) * _soft_l1_weights(residuals)
            move = _bounded_step(jacobian, here, weights, least, most)
        moves[resample] = move
    fewest = min(len(members) for members in groups)
    widened = np.sqrt(fewest / (fewest - 1)) if fewest > 1 else 1.0
    tail = (1 - confidence) / 2
    # Around the estimate itself: a resample's own bias is not the estimate's.
    low, high = np.quantile(moves * widened, (tail, 1 - tail), axis=0)
    return Intervals(
        np.clip(optimum.values + np.minimum(low, 0), problem.least, problem.most),
        np.clip(optimum.values + np.maximum(high, 0), problem.least, problem.most),
        level,
    )


def _soft_l1_weights(residuals: Array) -> Array:
    """Square roots of the weights with which least squares has soft L1's slope."""
    return np.asarray((1 + residuals**2) ** -0.25)


def _bounded_step(jacobian: Array, residuals: Array, weights: Array, least: Array, most: Array) -> Array:
    """The step within `least` … `most` that brings the weighted linear residuals lowest."""
    from scipy.optimize import lsq_linear

    weighted, target = jacobian * weights[:, np.newaxis], -residuals * weights
    step = np.asarray(np.linalg.lstsq(weighted, target)[0], dtype=np.float64)
    if (step < least).any() or (step > most).any():
        # What has an end of no width cannot be a bound of the linear problem.
        bounds = (np.minimum(least, -1e-12), np.maximum(most, 1e-12))
        step = np.asarray(lsq_linear(weighted, target, bounds=bounds).x, dtype=np.float64)
    return step


def _blocks(
    observations: Sequence[Observation],
) -> tuple[DrawnLevel, list[list[int]], list[NDArray[np.intp]]]:
    """What is drawn: groups of blocks, each a list of numbers of blocks; a block is places of observations."""
    runs = sorted({observation.run_id for observation in observations})
    of_point: dict[object, set[str]] = {}
    repeats: dict[tuple[int, object], set[tuple[str, int]]] = {}
    for observation in observations:
        of_point.setdefault(observation.point, set()).add(observation.run_id)
        cell = (observation.point.case, observation.point.split)
        repeats.setdefault(cell, set()).add((observation.run_id, observation.repeat))

    def places(wanted: Sequence[object], key: Sequence[object]) -> list[NDArray[np.intp]]:
        return [np.array([place for place, own in enumerate(key) if own == one], dtype=np.intp) for one in wanted]

    if all(len(found) > 1 for found in of_point.values()):
        return "runs", [list(range(len(runs)))], places(runs, [o.run_id for o in observations])
    if all(len(found) > 1 for found in repeats.values()):
        wanted = [(cell, repeat) for cell, found in repeats.items() for repeat in sorted(found)]
        blocks = places(
            wanted, [((o.point.case, o.point.split), (o.run_id, o.repeat)) for o in observations]
        )  # fmt: skip
        groups = [[place for place, (own, _) in enumerate(wanted) if own == cell] for cell in repeats]
        return "repeats", groups, blocks
    cells = list(repeats)
    return "cells", [list(range(len(cells)))], places(cells, [(o.point.case, o.point.split) for o in observations])
