"""Robust least squares of phase times from several starts, and which parameters the observations tell apart.

Residuals are ln(predicted / measured) over how far a median of that phase is off by chance, so that a phase of
0.1 ms and one of 10 s count alike; soft L1 lets what is farther off than that pull less (Huber's idea, smooth).

Identifiability is that of the optimum: the columns of the Jacobian, scaled by what the parameters are counted in, are
taken apart by singular values. A column of nothing is a parameter that no observation depends on; a singular value
of nothing, or a correlation above the limit, is a combination of parameters that the observations do not tell apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from validation.errors import FitError

Array = NDArray[np.float64]
# Above this, two parameters are one as far as the observations go.
MOST_CORRELATED = 0.95
STARTS = 5
# Of the cost: a step that gains no more is the last one.
_PRECISION = 1e-6
_MOST_STEPS = 200
# Starts agree where their costs differ by less than this: far below any interval.
_AGREEING, _TOLERANCE = 1.001, 1e-9
# Of the largest singular value: below it a combination of columns is rounding.
_NOTHING = 1e-6
# Of a column's length: what others leave of one that they make up is rounding, of a singular value's size and more.
_MADE_UP = 1e-4
# A column this short, next to the residuals' own unit, moves no residual over a hundred scales of its parameter.
_NO_EFFECT = 1e-3
# Members of a combination that is not told apart have at least this share of its largest weight.
_MEMBER = 0.3
# In scales: so close to its bound a parameter has been driven there.
AT_BOUND = 1e-3


@dataclass(frozen=True)
class Problem:
    """`predict` takes (parameters,) values in their scales to (points,) seconds; what was measured, by point."""

    predict: Callable[[Array], Array]
    place: NDArray[np.intp]  # (observations,) the point of each
    measured_s: Array  # (observations,)
    spread: Array  # (observations,) relative
    least: Array
    most: Array

    def residuals(self, values: Array) -> Array:
        """(observations,)"""
        return _log_ratio(self.predict(values)[self.place], self.measured_s) / self.spread


def _log_ratio(predicted_s: Array, measured_s: Array) -> Array:
    # A parameter at 0 may leave nothing of a phase: a nanosecond stands for it, so that the logarithm stays finite.
    return np.asarray(np.log(np.maximum(predicted_s, 1e-9) / measured_s))


@dataclass(frozen=True)
class Optimum:
    """`agreeing` of the starts ended there or as low. `log_slopes` are of ln(predicted), (points, parameters)."""

    values: Array
    cost: float
    agreeing: int
    starts: int
    log_slopes: Array


def minimise(problem: Problem, starts: Sequence[Array]) -> Optimum:
    """The lowest of the minima that the starts lead to.

    Raises
    ------
    FitError : none of them led anywhere.
    """
    found = [_descend(problem, np.clip(start, problem.least, problem.most)) for start in starts]
    costs = [cost for _, cost in found]
    if not np.isfinite(min(costs)):
        raise FitError("fit: no start led anywhere; the runs may be of unlike conditions, or hold too few cells")
    values, cost = found[int(np.argmin(costs))]
    agreeing = sum(other <= cost * _AGREEING + _TOLERANCE for other in costs)
    return Optimum(values, cost, agreeing, len(starts), log_slopes(problem, values))


def _descend(problem: Problem, start: Array) -> tuple[Array, float]:
    """The minimum that a start leads to, and its cost; infinite where no time is predicted there at all.

    Steps are scaled by the Jacobian's columns: half of all costs of a host may well be nothing, and towards those
    bounds scipy's interior method otherwise creeps.
    """
    from scipy.optimize import least_squares

    if not np.isfinite(problem.residuals(start)).all():
        return start, np.inf

    def slopes(values: Array) -> Array:
        return np.asarray(log_slopes(problem, values)[problem.place] / problem.spread[:, np.newaxis])

    found = least_squares(
        problem.residuals,
        start,
        jac=slopes,
        bounds=(problem.least, problem.most),
        loss="soft_l1",
        x_scale="jac",
        ftol=_PRECISION,
        xtol=_PRECISION**2,
        gtol=_PRECISION**2,
        max_nfev=_MOST_STEPS,
    )
    return np.asarray(found.x, dtype=np.float64), float(found.cost)


def log_slopes(problem: Problem, values: Array) -> Array:
    """Derivatives of ln(predicted) by each parameter in its scale, (points, parameters)."""
    columns = []
    here = problem.predict(values)
    for place in range(len(values)):
        step = np.zeros(len(values))
        step[place] = max(1e-4, 1e-4 * abs(values[place]))
        if values[place] + step[place] > problem.most[place]:
            step = -step
        change = problem.predict(values + step) - here
        columns.append(change / step[place] / np.maximum(here, 1e-9))
    return np.stack(columns, axis=1) if columns else np.zeros((len(here), 0))


@dataclass(frozen=True)
class Unidentified:
    """A parameter, by its place, to be fixed, and why; `others` are those it is not told apart from.

    One that is `correlated` with another is nearly so, and may be needed all the same.
    """

    place: int
    reason: str
    others: tuple[int, ...] = ()
    correlated: bool = False


def unidentified(problem: Problem, slopes: Array, told: Collection[int] | None = None) -> Unidentified | None:
    """The next parameter to fix, None where all are told apart. Of a combination it is the one that comes last.

    Parameters
    ----------
    slopes : `log_slopes` somewhere: at the optimum, or before there is one.
    told : places of those that are correlated and told apart all the same; None where correlations do not count yet.
    """
    jacobian = slopes[problem.place] / problem.spread[:, np.newaxis]
    lengths = np.linalg.norm(jacobian, axis=0)
    idle = np.flatnonzero(lengths < _NO_EFFECT)
    if len(idle):
        return Unidentified(int(idle[-1]), "no observation depends on it")
    columns = jacobian / lengths
    singular = np.linalg.svd(columns, compute_uv=False)
    if len(singular) < len(lengths):
        return Unidentified(len(lengths) - 1, "there are fewer observations than parameters")
    if singular[-1] < _NOTHING * singular[0]:
        return _combined(columns)
    if told is None:
        return None
    covariance = np.linalg.inv(columns.T @ columns)
    sizes = np.sqrt(np.diag(covariance))
    worst, pair = 0.0, (0, 0)
    for one, two in itertools.combinations(range(len(sizes)), 2):
        correlation = float(covariance[one, two] / (sizes[one] * sizes[two]))
        if two not in told and abs(correlation) > max(MOST_CORRELATED, worst):
            worst, pair = abs(correlation), (one, two)
    return Unidentified(pair[1], f"correlation {worst:.3f}", (pair[0],), correlated=True) if worst else None


def _combined(columns: Array) -> Unidentified:
    """The first column that those before it make up, and which of them: the null space, in the parameters' order."""
    for place in range(1, columns.shape[1]):
        before = columns[:, :place]
        weights = np.linalg.lstsq(before, columns[:, place])[0]
        if np.linalg.norm(before @ weights - columns[:, place]) < _MADE_UP:
            sizes = np.abs(weights)
            return Unidentified(
                place, "only a combination is seen", tuple(np.flatnonzero(sizes >= _MEMBER * sizes.max()).tolist())
            )
    raise FitError("fit: parameters are not told apart, and no single one is to blame; measure more splits or links")
