"""Left-out errors: every published row predicted by a fit that never saw it.

A row is one split. When it is left out, so are both of its stage times on the device, and its cut with them. The
strength of the ridge is part of the fit, so it is chosen without the row as well: for each left-out row, an inner
leave-one-row-out over the remaining rows picks one of `CANDIDATES`. The left-out error is therefore of the
whole procedure, choice included.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from validation.device_law import Floats, LawFit, Regularisation, fit_law
from validation.published import PublishedRow, StageTime

_SPREADS = (0.03, 0.1, 0.3)
CANDIDATES = tuple(Regularisation(*spreads) for spreads in product(_SPREADS, _SPREADS))

Fitter = Callable[[tuple[StageTime, ...], Regularisation], LawFit]


@dataclass(frozen=True)
class StageFit:
    """A published stage time beside what the fit says with its row and without it, seconds per batch."""

    time: StageTime
    fitted_s: float
    left_out_s: float

    @property
    def fitted_error(self) -> float:
        """Relative error of the fit that saw this row."""
        return self.fitted_s / self.time.seconds - 1

    @property
    def left_out_error(self) -> float:
        """Relative error of the fit that did not."""
        return self.left_out_s / self.time.seconds - 1


def median_error(errors: Iterable[float]) -> float:
    """Median of the absolute values of relative errors."""
    return statistics.median(abs(error) for error in errors)


@dataclass(frozen=True)
class JudgedFit:
    """A fit to all rows, the ridge it was made with, every stage's fitted and left-out time, and each row's own fit."""

    fit: LawFit
    regularisation: Regularisation
    stages: tuple[StageFit, ...]
    fits_without: Mapping[PublishedRow, LawFit]


def fit_and_judge(
    work: Mapping[str, Floats],
    times: Sequence[StageTime],
    candidates: Sequence[Regularisation] = CANDIDATES,
) -> JudgedFit:
    """Fit all stage times of a device, and judge the fit by leaving out one row at a time."""

    # The same two rows are left out in either order, so remembering fits halves the work.
    @functools.cache
    def fitter(some: tuple[StageTime, ...], regularisation: Regularisation) -> LawFit:
        return fit_law(work, some, regularisation)

    times = tuple(times)
    fits_without: dict[PublishedRow, LawFit] = {}
    for row in rows_of(times):
        others = without(times, row)
        fits_without[row] = fitter(others, choose(fitter, others, candidates))
    regularisation = choose(fitter, times, candidates)
    fit = fitter(times, regularisation)
    return JudgedFit(
        fit=fit,
        regularisation=regularisation,
        stages=tuple(StageFit(time, fit.stage_s(time), fits_without[time.row].stage_s(time)) for time in times),
        fits_without=fits_without,
    )


def choose(fitter: Fitter, times: Sequence[StageTime], candidates: Sequence[Regularisation]) -> Regularisation:
    """The candidate with the smallest median left-out error of those rows; on a tie, the first.

    The median, because it is what is reported, and because rows that contradict the rest cannot be predicted from
    it and would weigh on a mean. Over so few rows the choice is not sharp: on the published tables, choosing by
    the mean of |log error| or of a bounded loss instead gives left-out medians of 6–8 % where this gives 5 %.
    """
    return min(candidates, key=lambda candidate: statistics.median(left_out_log_errors(fitter, times, candidate)))


def left_out_log_errors(fitter: Fitter, times: Sequence[StageTime], regularisation: Regularisation) -> list[float]:
    """|log(predicted/published)| of every stage, each predicted without its row."""
    errors = []
    for row in rows_of(times):
        fit = fitter(without(times, row), regularisation)
        errors += [abs(math.log(fit.stage_s(time) / time.seconds)) for time in times if time.row == row]
    return errors


def rows_of(times: Sequence[StageTime]) -> tuple[PublishedRow, ...]:
    """The rows that those times are of, in order."""
    return tuple(dict.fromkeys(time.row for time in times))


def without(times: Sequence[StageTime], row: PublishedRow) -> tuple[StageTime, ...]:
    """All times but those of one row."""
    return tuple(time for time in times if time.row != row)
