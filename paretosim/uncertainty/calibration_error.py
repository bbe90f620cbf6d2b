"""Calibrations as they may be: draws of a calibration's parameters within the intervals that its fit left them.

An interval of level 0.9 is read as 5–95 %, and others likewise. A parameter is drawn around its own value, with the
spread of the interval's end on either side: on a logarithmic scale where the whole interval is above zero, else on a
linear one cut off at zero. Parameters are drawn independently, as no more than intervals is known of them.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from paretosim.calibration import Calibration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def drawn_calibrations(calibration: Calibration, samples: int, rng: np.random.Generator) -> list[Calibration]:
    """That many calibrations, equal to the given one but for the parameters that have intervals."""
    if calibration.interval_level is None:  # then it has no intervals
        return [calibration] * samples
    end = NormalDist().inv_cdf((1 + calibration.interval_level) / 2)  # of that interval of a standard normal
    drawn = {
        path: _drawn(calibration.value_at(path), low, high, rng.standard_normal(samples) / end).tolist()
        for path, (low, high) in sorted(calibration.intervals.items())
    }
    return [_with(calibration, {path: values[sample] for path, values in drawn.items()}) for sample in range(samples)]


def _drawn(value: float, low: float, high: float, normal: Array) -> Array:
    """Draws around a value from `normal`, in which an interval ends at −1 and 1."""
    if low > 0:
        below, above = math.log(value / low), math.log(high / value)
        return np.asarray(value * np.exp(normal * np.where(normal < 0, below, above)))
    return np.maximum(0.0, value + normal * np.where(normal < 0, value - low, high - value))


def _with(calibration: Calibration, values: dict[str, float]) -> Calibration:
    changed: Any = msgspec.to_builtins(calibration)
    for path, value in values.items():
        *parents, last = calibration.steps_to(path)
        place = changed
        for name in parents:
            place = place[name]
        place[last] = round(value) if isinstance(place[last], int) and last.endswith("_bytes") else value
    changed.pop("intervals")
    return msgspec.convert(changed, Calibration)
