"""A device's block times from published stage sums: one law, corrected per model and per segment, regularised.

The law is `seconds = multiply_adds/f + bytes/b + calls·o`, all three of them positive. No six networks obey it
exactly, so a model's times carry a factor of its own, and each segment (the blocks between two
neighbouring published cuts, which no published sum can tell apart) one more. The sums contradict each other by
several percent, so factors are not free: their logarithms are pulled to zero by a ridge, and a stage that no
factor explains cheaply counts by its absolute, not its squared, error:

    minimise  Σ_stages ρ(log(fitted/published) / noise) + Σ_models (log c / model_spread)²
              + Σ_segments (log c / segment_spread)² + Σ_law (log(p/p₀) / 1)²,      ρ(r) = 2(√(1+r²) − 1)

Everything is positive because logarithms are fitted. Of n published stages at most n can be met, and
there are more factors than stages: the ridge decides, and its strength is chosen by `left_out`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from validation.errors import FitError
from validation.published import StageTime

Floats = NDArray[np.float64]

# Repeats of one model's total differ by 1.4–9.5 % within the published table: about 3 % for each of its stages.
RELATIVE_NOISE = 0.03
# Where the law is pulled to, by a spread of a factor e either way: multiply-adds per second, bytes per second (a
# first unregularised trial on the same tables) and seconds a call (order of a PyTorch module call on an A72).
_LAW_PRIOR = (14.4e9, 0.70e9, 1e-3)
_LAW_SPREAD = 1.0
_TOLERANCE = 1e-13


@dataclass(frozen=True)
class Regularisation:
    """Standard deviations of the log corrections: how far a model, and a segment of it, may leave the law."""

    model_spread: float
    segment_spread: float


@dataclass(frozen=True)
class DeviceLaw:
    """Rates and overhead of a device before any correction."""

    multiply_adds_per_s: float
    bytes_per_s: float
    overhead_s: float

    def block_times_s(self, work: Floats) -> Floats:
        """Seconds of blocks, from their work of shape (blocks, 3): multiply-adds, bytes, calls."""
        times_s: Floats = work @ np.array([1 / self.multiply_adds_per_s, 1 / self.bytes_per_s, self.overhead_s])
        return times_s


@dataclass(frozen=True)
class LawFit:
    """The fitted law, each model's own factor, and the corrected block times in seconds per batch."""

    law: DeviceLaw
    model_factors: Mapping[str, float]
    block_times_s: Mapping[str, Floats]

    def stage_s(self, time: StageTime) -> float:
        """Fitted seconds of the blocks of a published stage."""
        return float(self.block_times_s[time.model][time.first : time.last].sum())


@dataclass(frozen=True)
class _Segment:
    model: str
    first: int
    last: int


def fit_law(work: Mapping[str, Floats], times: Sequence[StageTime], regularisation: Regularisation) -> LawFit:
    """Fit the law and its corrections to published stage times.

    Parameters
    ----------
    work : per model, shape (blocks, 3): multiply-adds, bytes and calls of one batch. Models without a published
        time get the law uncorrected.
    times : stage times on one device.

    Raises
    ------
    FitError : no times, a stage without work, or no convergence.
    """
    if not times:
        raise FitError("device law: got no published stage times, expected at least one")
    problem = _Problem(work, times, regularisation)
    from scipy.optimize import least_squares  # an extra; checked by the command that asks for a fit

    solution = least_squares(
        problem.residuals,
        np.zeros(problem.unknowns),
        jac=problem.jacobian,
        method="lm",
        ftol=_TOLERANCE,
        xtol=_TOLERANCE,
        gtol=_TOLERANCE,
        max_nfev=2000,
    )
    if solution.status <= 0:
        raise FitError(f"device law: no convergence after {solution.nfev} evaluations: {solution.message}")
    return problem.fit_at(solution.x)


def relative_noise(time: StageTime) -> float:
    """Relative noise taken for a published stage time: that of measuring it, and that of printing it rounded."""
    return math.hypot(RELATIVE_NOISE, time.resolution_s / time.seconds)


class _Problem:
    """Residuals over the unknowns: 3 of the law, one per model, one per segment, all logs relative to the prior."""

    def __init__(self, work: Mapping[str, Floats], times: Sequence[StageTime], regularisation: Regularisation) -> None:
        self._work = work
        self._models = sorted(work)
        self._segments = _segments(work, times)
        self._prior = 1 / np.array(_LAW_PRIOR) ** np.array([1.0, 1.0, -1.0])
        self._segment_work = self._prior * np.array(
            [work[segment.model][segment.first : segment.last].sum(axis=0) for segment in self._segments]
        )
        self._model_of = np.array([self._models.index(segment.model) for segment in self._segments])
        self._covers = np.array([[_covers(time, segment) for segment in self._segments] for time in times], dtype=float)
        for time, sum_s in zip(times, self._covers @ self._segment_work.sum(axis=1), strict=True):
            if sum_s <= 0:
                raise FitError(f"{time.row.name}, stage {time.stage}: its blocks have no work, so no law can time it")
        self._log_published = np.log([time.seconds for time in times])
        self._noise = np.array([relative_noise(time) for time in times])
        self._spreads = np.concatenate(
            [
                np.full(3, _LAW_SPREAD),
                np.full(len(self._models), regularisation.model_spread),
                np.full(len(self._segments), regularisation.segment_spread),
            ]
        )
        self.unknowns = len(self._spreads)

    def residuals(self, logs: Floats) -> Floats:
        """Shape (stages + unknowns,): what the sum of squares is minimised of."""
        errors = (np.log(self._covers @ self._parts(logs).sum(axis=1)) - self._log_published) / self._noise
        return np.concatenate([_robust(errors)[0], logs / self._spreads])

    def jacobian(self, logs: Floats) -> Floats:
        """Shape (stages + unknowns, unknowns): the derivative of `residuals`."""
        parts = self._parts(logs)
        sums = self._covers @ parts.sum(axis=1)
        by_segment = self._covers * parts.sum(axis=1) / sums[:, None]
        by_model = by_segment @ np.equal.outer(self._model_of, np.arange(len(self._models)))
        by_law = (self._covers @ parts) / sums[:, None]
        slopes = _robust((np.log(sums) - self._log_published) / self._noise)[1] / self._noise
        return np.concatenate(
            [slopes[:, None] * np.concatenate([by_law, by_model, by_segment], axis=1), np.diag(1 / self._spreads)]
        )

    def fit_at(self, logs: Floats) -> LawFit:
        """The law and block times at those unknowns."""
        scale = self._prior * np.exp(logs[:3])
        law = DeviceLaw(
            multiply_adds_per_s=float(1 / scale[0]), bytes_per_s=float(1 / scale[1]), overhead_s=float(scale[2])
        )
        block_times_s = {model: law.block_times_s(blocks) for model, blocks in self._work.items()}
        for segment, factor in zip(self._segments, self._factors(logs), strict=True):
            block_times_s[segment.model][segment.first : segment.last] *= factor
        model_logs = logs[3 : 3 + len(self._models)]
        return LawFit(
            law=law,
            model_factors={model: math.exp(log) for model, log in zip(self._models, model_logs, strict=True)},
            block_times_s=block_times_s,
        )

    def _parts(self, logs: Floats) -> Floats:
        """Seconds of each segment, shape (segments, 3): computing, moving bytes, calls."""
        parts: Floats = self._segment_work * np.exp(logs[:3]) * self._factors(logs)[:, None]
        return parts

    def _factors(self, logs: Floats) -> Floats:
        first_segment = 3 + len(self._models)
        factors: Floats = np.exp(logs[3:first_segment][self._model_of] + logs[first_segment:])
        return factors


def _segments(work: Mapping[str, Floats], times: Sequence[StageTime]) -> list[_Segment]:
    """The blocks between neighbouring cuts, of every model, in order."""
    found = []
    for model in sorted(work):
        bounds = {0, len(work[model])}
        for time in times:
            if time.model == model:
                bounds |= {time.first, time.last}
        cuts = sorted(bounds)
        found += [_Segment(model, first, last) for first, last in pairwise(cuts)]
    return found


def _covers(time: StageTime, segment: _Segment) -> bool:
    return time.model == segment.model and time.first <= segment.first and segment.last <= time.last


def _robust(errors: Floats) -> tuple[Floats, Floats]:
    """Residuals whose squares are ρ(errors) = 2(√(1+e²) − 1), with the sign of the errors, and their slopes.

    √ρ = |e|·√(2/(1+√(1+e²))), which is smooth at 0.
    """
    root = np.sqrt(1 + errors**2)
    residuals = errors * np.sqrt(2 / (1 + root))
    slopes = np.sqrt((1 + root) / 2) / root
    return residuals, slopes
