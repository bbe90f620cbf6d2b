"""The first value of a quantity at which another station takes longer than the one that binds.

Between known breaks every station's interval is a maximum of lines: of one line for a station by itself, of several
where full buffers hold it up. So it is convex there, and a chord that meets it in the middle is the interval all along.
Pieces are halved until that is so, and where two lines cross is then exact to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Relative: how far from its chord rounding takes a line, and how short a piece is that is halved no more.
_ON_CHORD, _SHORTEST = 1e-12, 1e-9


def first_crossing(
    times_at: Callable[[float], Array], start: float, end: float, breaks: Sequence[float], binding: int
) -> tuple[float, int] | None:
    """The first point from `start` on towards `end` at which another station takes as long, and which; None without.

    `times_at`, (stations,) seconds, is convex between `breaks`.
    """
    low, high = sorted((start, end))
    points = sorted({start, end, *(p for p in breaks if low < p < high)}, reverse=end < start)
    before, at = times_at(points[0]), points[0]
    for one, two in pairwise(points):
        for turn, after in _straight(times_at, one, before, two, times_at(two)):
            gap_one, gap_two = before[binding] - before, after[binding] - after
            falls = np.flatnonzero(gap_two < -_ON_CHORD * after[binding])  # not for rounding
            if len(falls):
                ahead = np.maximum(0.0, gap_one[falls])
                shares = ahead / (ahead - gap_two[falls])
                first = int(shares.argmin())
                return at + float(shares[first]) * (turn - at), int(falls[first])
            before, at = after, turn
    return None


def _straight(
    times_at: Callable[[float], Array], one: float, at_one: Array, two: float, at_two: Array
) -> Iterator[tuple[float, Array]]:
    """Ends of pieces from `one` to `two` along each of which all times are lines, with the times there."""
    middle = (one + two) / 2
    at_middle, chord = times_at(middle), (at_one + at_two) / 2
    if np.all(chord - at_middle <= _ON_CHORD * chord) or abs(two - one) <= _SHORTEST * max(abs(one), abs(two)):
        yield two, at_two
        return
    yield from _straight(times_at, one, at_one, middle, at_middle)
    yield from _straight(times_at, middle, at_middle, two, at_two)


def fewer_bytes(times_at: Callable[[int], Array], least: int, now: int, binding: int) -> tuple[int, int] | None:
    """The most bytes with which another station takes longer, and which; None where none does."""

    def other(size: int) -> int | None:
        times = times_at(size)
        slowest = int(times.argmax())
        return None if times[slowest] <= times[binding] else slowest

    low, high = least, now
    then = other(low)
    if then is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if (found := other(middle)) is None:
            high = middle
        else:
            low, then = middle, found
    return low, then
