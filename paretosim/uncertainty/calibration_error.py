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
from paretosim.errors import BadInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def drawn_calibrations(calibration: Calibration, samples: int, rng: np.random.Generator) -> list[Calibration]:
    """That many calibrations, equal to the given one but for the parameters that have intervals.

    Raises
    ------
    BadInputError : an interval of something that is not a parameter with a value, or that its value is outside of.
    """
    if calibration.interval_level is None:  # then it has no intervals
        return [calibration] * samples
    end = NormalDist().inv_cdf((1 + calibration.interval_level) / 2)  # of that interval of a standard normal
    drawn = {
        path: _drawn(_value(calibration, path), low, high, rng.standard_normal(samples) / end, path).tolist()
        for path, (low, high) in sorted(calibration.intervals.items())
    }
    return [_with(calibration, {path: values[sample] for path, values in drawn.items()}) for sample in range(samples)]


def _drawn(value: float, low: float, high: float, normal: Array, path: str) -> Array:
    """Draws around a value from `normal`, in which an interval ends at −1 and 1."""
    if not low <= value <= high:
        raise BadInputError(f"intervals.{path}: got {low} to {high}, expected one that holds the value, {value}")
    if low > 0:
        below, above = math.log(value / low), math.log(high / value)
        return np.asarray(value * np.exp(normal * np.where(normal < 0, below, above)))
    return np.maximum(0.0, value + normal * np.where(normal < 0, value - low, high - value))


def _value(calibration: Calibration, path: str) -> float:
    found: Any = msgspec.to_builtins(calibration)
    for name in _steps(calibration, path):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise BadInputError(
            f"intervals.{path}: got no number there, expected the path of a parameter that has one, such as"
            " devices.rpi4b.gamma"
        )
    return float(found)


def _steps(calibration: Calibration, path: str) -> list[str]:
    """The names on a path; a device's own may hold dots."""
    for device in sorted(calibration.devices, key=len, reverse=True):
        of_device = f"devices.{device}."
        if path.startswith(of_device):
            return ["devices", device, *path.removeprefix(of_device).split(".")]
    return path.split(".")


def _with(calibration: Calibration, values: dict[str, float]) -> Calibration:
    changed: Any = msgspec.to_builtins(calibration)
    for path, value in values.items():
        *parents, last = _steps(calibration, path)
        place = changed
        for name in parents:
            place = place[name]
        place[last] = round(value) if isinstance(place[last], int) and last.endswith("_bytes") else value
    changed.pop("intervals")
    return msgspec.convert(changed, Calibration)
