"""Errors phase by phase: each piece of a batch's way beside what its cell's own prediction has of it.

Phases are those that a fit goes by (`fitting.observations`), of all cells, whether a fit has seen them or not. A term
that the model lacks shows in the phase that it belongs to, long before it shows in a latency.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from paretosim.calibration import NEUTRAL, Calibration
from validation.comparing import Comparison
from validation.fitting.observations import PHASES, Observed, Phase, Point, cases_of, observe
from validation.fitting.phase_times import PhaseTimes
from validation.join import Joined, JoinedCondition


@dataclass(frozen=True)
class PhaseError:
    """One phase of one plan: seconds, medians over repeats; `low` to `high` is their range."""

    phase: Phase
    cell: Comparison
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float

    @property
    def error_s(self) -> float:
        """Predicted less measured."""
        return self.predicted_s - self.measured_s


@dataclass(frozen=True)
class PhaseSummary:
    """Of one phase: how many plans show it, and medians over them: seconds, and noise half the range over repeats."""

    phase: Phase
    cells: int
    measured_s: float
    error_s: float
    error_size_s: float
    noise_s: float


def phase_errors(joined: Joined) -> tuple[PhaseError, ...]:
    """Of all cells, in the order of `PHASES`."""
    found = [error for condition in joined.conditions for error in _of_condition(joined, condition)]
    return tuple(sorted(found, key=lambda error: PHASES.index(error.phase)))


def _of_condition(joined: Joined, condition: JoinedCondition) -> Iterator[PhaseError]:
    # Where cells are held out in turn, those of one condition may have calibrations of several folds.
    by_calibration: dict[int, list[Comparison]] = {}
    for cell in condition.comparisons:
        by_calibration.setdefault(id(cell.inputs.calibration), []).append(cell)
    for cells in by_calibration.values():
        own = replace(joined, conditions=(replace(condition, comparisons=tuple(cells)),))
        observed = observe(cases_of(own))
        calibration = cells[0].inputs.calibration
        if calibration is None:
            calibration = msgspec.structs.replace(NEUTRAL, backend=condition.condition.backend)
        yield from _of_cells(observed, calibration, cells)


def _of_cells(observed: Observed, calibration: Calibration, cells: list[Comparison]) -> Iterator[PhaseError]:
    by_cuts = {cell.cuts: cell for cell in cells}
    seconds: dict[Point, list[float]] = {}
    for observation in observed.observations:
        seconds.setdefault(observation.point, []).append(observation.seconds)
    times = PhaseTimes(observed)
    for point, predicted_s in zip(times.points, times(calibration).tolist(), strict=True):
        repeats = seconds[point]
        cuts = (point.split,) if isinstance(point.split, int) else point.split
        yield PhaseError(
            phase=point.phase, cell=by_cuts[cuts], measured_s=statistics.median(repeats), predicted_s=predicted_s,
            low_s=min(repeats), high_s=max(repeats),
        )  # fmt: skip


def summaries(errors: tuple[PhaseError, ...]) -> tuple[PhaseSummary, ...]:
    """Of each phase that is there."""
    by_phase: dict[Phase, list[PhaseError]] = {}
    for error in errors:
        by_phase.setdefault(error.phase, []).append(error)
    return tuple(
        PhaseSummary(
            phase=phase,
            cells=len(own),
            measured_s=statistics.median(error.measured_s for error in own),
            error_s=statistics.median(error.error_s for error in own),
            error_size_s=statistics.median(abs(error.error_s) for error in own),
            noise_s=statistics.median((error.high_s - error.low_s) / 2 for error in own),
        )
        for phase, own in by_phase.items()
    )
