"""Which scale an axis gets, in the terminal, in a notebook and in a figure alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Beyond this ratio of extremes a linear axis presses the front into a corner.
LOG_AXIS_RATIO = 6.0


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether an axis that shows all of `values` is logarithmic."""
    return max(values) > LOG_AXIS_RATIO * min(values) > 0


def fractions(values: Sequence[float]) -> list[float]:
    """Place of each value along its axis, 0 at the lowest and 1 at the highest; 0 where all are equal.

    >>> fractions([1.0, 10.0, 100.0])
    [0.0, 0.5, 1.0]
    """
    scaled = [math.log(value) for value in values] if is_logarithmic(values) else list(values)
    low, span = min(scaled), (max(scaled) - min(scaled)) or 1.0
    return [(value - low) / span for value in scaled]
