"""Pareto dominance: the only dominance test of the project, and what is read off a front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paretosim.errors import BadArrayError

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import ArrayLike, NDArray


def is_nondominated(costs: ArrayLike) -> NDArray[np.bool_]:
    """Which rows no other row dominates.

    A row dominates another if it is no worse in every column and better in one. Exact ties do not dominate
    each other, so both are kept.

    Parameters
    ----------
    costs : (n, m), every column minimised (negate what is to be large); NaN is refused, +inf is allowed.

    Returns
    -------
    (n,) mask.

    Raises
    ------
    BadArrayError : not that shape, not numbers, or NaN among them.

    >>> is_nondominated([[1.0, 4.0], [2.0, 4.0], [3.0, 1.0], [1.0, 4.0]]).tolist()
    [True, False, True, True]
    """
    values = _numbers(costs, "costs")
    if values.ndim != 2 or np.isnan(values).any():
        raise BadArrayError(f"costs: got shape {values.shape}, expected (n, m) without NaN")
    mask = np.ones(len(values), dtype=np.bool_)
    if values.shape[1] == 0:
        return mask  # nothing to differ in
    # What dominates a row stands before it in lexicographic order, and is on the front or dominated by what is.
    front, count = np.empty_like(values), 0
    for index in np.lexsort(values.T[::-1]).tolist():
        row, before = values[index], front[:count]
        no_worse = (before <= row).all(axis=1)
        better = (before < row).any(axis=1)
        mask[index] = not (no_worse & better).any()
        if mask[index]:
            front[count] = row
            count += 1
    return mask


def are_dominated(costs: NDArray[np.float64], others: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """Which rows some of the others dominates with room to spare: by more than a share `margin` in one column.

    Parameters
    ----------
    costs, others : (n, m) and (k, m), every column minimised and never below zero.

    Returns
    -------
    (n,) mask.

    >>> are_dominated(np.array([[1.0, 4.0], [2.0, 4.0]]), np.array([[1.0, 3.9], [1.0, 4.0]]), 0.1).tolist()
    [False, True]
    """
    worse = np.zeros(len(costs), dtype=np.bool_)
    clearly_below = costs * (1 - margin)
    for other in others:
        worse |= (other <= costs).all(axis=1) & (other < clearly_below).any(axis=1)
    return worse


def are_nondominated(*costs: ArrayLike) -> NDArray[np.bool_]:
    """`is_nondominated` of many problems at once.

    Compares every pair of points over all problems: for few points and many problems, where a sort of each problem
    costs more.

    Parameters
    ----------
    costs : one or more, (points, problems) each, all minimised; NaN is refused, +inf is allowed.

    Returns
    -------
    (points, problems) mask; column p is `is_nondominated` of column p of each.

    Raises
    ------
    BadArrayError : not that shape, not alike, or NaN among them.

    >>> are_nondominated([[1.0, 1.0], [2.0, 1.0]], [[4.0, 4.0], [3.0, 4.5]]).tolist()
    [[True, True], [True, False]]
    """
    values = [_numbers(cost, "costs") for cost in costs]
    shape = values[0].shape
    if len(shape) != 2 or any(cost.shape != shape or np.isnan(cost).any() for cost in values):
        shapes = " and ".join(str(cost.shape) for cost in values)
        raise BadArrayError(f"costs: got shapes {shapes}, expected (points, problems) for each, alike and without NaN")
    dominated = np.zeros(shape, dtype=np.bool_)
    for i in range(shape[0] - 1):
        no_worse, no_better = values[0][i] <= values[0][i + 1 :], values[0][i] >= values[0][i + 1 :]
        for cost in values[1:]:
            no_worse &= cost[i] <= cost[i + 1 :]
            no_better &= cost[i] >= cost[i + 1 :]
        dominated[i + 1 :] |= no_worse > no_better  # and not the reverse: then one of them is better
        dominated[i] |= (no_better > no_worse).any(axis=0)
    return ~dominated


def representatives(no_worse: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each of n things, the place of one that is no worse and that nothing else stands for; its own, if none is.

    Of things that are no worse than each other the first stands for the rest. In a relation that is transitive but for
    roundings everything is stood for by what is said to be no worse than it itself.

    Parameters
    ----------
    no_worse : (n, n), [a, b] where a is no worse than b.

    Returns
    -------
    (n,) places; a representative's is its own.

    >>> costs = np.array([[1.0, 4.0], [2.0, 4.0], [3.0, 1.0], [1.0, 4.0]])
    >>> representatives((costs[:, np.newaxis] <= costs).all(axis=2)).tolist()
    [0, 0, 2, 0]
    """
    places = np.arange(len(no_worse))
    stands_for = no_worse & (~no_worse.T | (places[:, np.newaxis] < places))
    # Never circular, so where it is transitive, what is stood for is so by one that is not.
    stands_for &= ~stands_for.any(axis=0, keepdims=True).T
    return np.where(stands_for.any(axis=0), stands_for.argmax(axis=0), places)


def knee(latencies: ArrayLike, throughputs: ArrayLike) -> int:
    """Index of the front's point farthest from the chord between its ends, both axes scaled to 0 … 1.

    Of points equally far, the one of lower latency, then the first. A front of one point is its own knee.

    Parameters
    ----------
    latencies, throughputs : (n,) points of a front, one or more, in any order.

    Raises
    ------
    BadArrayError : not that shape, not alike, or NaN among them.
    """
    given = [_numbers(latencies, "latencies"), _numbers(throughputs, "throughputs")]
    shape = given[0].shape
    if len(shape) != 1 or 0 in shape or given[1].shape != shape or np.isnan(given).any():
        raise BadArrayError(
            f"latencies and throughputs: got shapes {shape} and {given[1].shape}, expected (n,) for both, one point or"
            " more, without NaN"
        )
    points = np.stack(given, axis=1)
    span = np.ptp(points, axis=0)
    if (span == 0).any():  # all at one point: nothing to trade
        return int(np.argmin(points[:, 0]))
    x, y = ((points - points.min(axis=0)) / span).T
    # A front rises from (0, 0) to (1, 1): the fastest point is the one of lowest throughput. So the
    # distance to its chord is |y − x| / √2; ten digits, for points on the chord up to rounding.
    distance = np.round(np.abs(y - x), 10)
    return min(range(len(points)), key=lambda i: (-distance[i], points[i, 0], i))


def _numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise BadArrayError(f"{what}: cannot be read as an array of numbers: {error}") from error


def knees(latencies: ArrayLike, throughputs: ArrayLike, on_front: NDArray[np.bool_]) -> NDArray[np.intp]:
    """`knee` of many fronts at once.

    Parameters
    ----------
    latencies, throughputs, on_front : (problems, points); each row's front is not empty.

    Returns
    -------
    (problems,) places of points.

    >>> knees([[0.0, 1.0, 4.0]], [[0.0, 3.0, 4.0]], np.array([[True, True, True]])).tolist()
    [1]
    """
    scaled = []
    alone = np.zeros(len(on_front), dtype=np.bool_)
    for values in (np.asarray(latencies, dtype=np.float64), np.asarray(throughputs, dtype=np.float64)):
        low = np.where(on_front, values, np.inf).min(axis=1, keepdims=True)
        span = np.where(on_front, values, -np.inf).max(axis=1, keepdims=True) - low
        alone |= (span == 0)[:, 0]
        scaled.append((values - low) / np.where(span == 0, 1.0, span))
    distance = np.where(on_front, np.round(np.abs(scaled[1] - scaled[0]), 10), -1.0)
    farthest = on_front & (alone[:, np.newaxis] | (distance == distance.max(axis=1, keepdims=True)))
    return np.asarray(np.where(farthest, latencies, np.inf).argmin(axis=1))
