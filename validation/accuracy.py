"""How accurate predictions are that a calibration makes of what it has not seen.

For each backend a calibration is fitted on one model over a few links; every other cell is predicted. No cell is on
both sides. What has to be reached (`validation/bars.py`) stands beside what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from hwrun.records import Cell, Run
from paretosim.calibration import BACKENDS, Backend
from paretosim.errors import BadInputError
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from validation.bars import FIGURES, Bar, Judged, Report, judge
from validation.fitting.fit import Fitted
from validation.groups import names_of, report_on
from validation.join import join

ALL = "all"
# Columns by heading: a figure's name (validation/bars.py), and whether it is a fraction to be shown in percent.
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("cells", "cells", False),
    ("latency MAPE", "latency_mape", True),
    ("P90", "latency_p90", True),
    ("noise floor", "latency_noise_floor", True),
    ("throughput MAPE", "throughput_mape", True),
    ("P90", "throughput_p90", True),
    ("noise floor", "throughput_noise_floor", True),
    ("transfer MAPE", "transfer_mape", True),
    ("noise floor", "transfer_noise_floor", True),
    ("… shaped links", "transfer_shaped_mape", True),
    ("within ±10 %", "latency_within_10_percent", True),
    ("of additive's error", "latency_of_additive", True),
    ("order inversions", "inversions", False),
    ("least decision hypervolume", "decision_hypervolume", False),
)


@dataclass(frozen=True)
class Row:
    """Figures of some cells, in the order of `COLUMNS`; None where they have none."""

    cells_of: str
    figures: tuple[float | None, ...]


@dataclass(frozen=True)
class Accuracy:
    """Of one backend: what its calibration was fitted on, rows over all else, and bars beside what was found of it.

    `agreeing` of `starts` of the fit ended at the same minimum. `not_compared` were measured, or skipped for a reason,
    and have no prediction beside them.
    """

    backend: Backend
    emulated: bool
    model: str
    links: tuple[str, ...]
    fitted_cells: int
    agreeing: int
    starts: int
    rows: tuple[Row, ...]
    judged: tuple[Judged, ...]
    not_compared: int

    @property
    def fitted_on(self) -> str:
        """The model and the links that the calibration was fitted on."""
        return f"{self.model} over {' and '.join(self.links)}"

    def figure(self, cells_of: str, name: str) -> float | None:
        """A figure of `COLUMNS` of the row that is so called; None where there is no such row, or none in it."""
        column = [figure for _, figure, _ in COLUMNS].index(name)
        return next((row.figures[column] for row in self.rows if row.cells_of == cells_of), None)


def is_fitted(cell: Cell, model: str, links: Sequence[str]) -> bool:
    """Whether the calibration may see the cell."""
    return Plan.parse(cell.plan).model == model and cell.link_name in links


def parted(runs: Sequence[Run], backend: Backend, *, model: str, links: Sequence[str]) -> tuple[list[Run], list[Run]]:
    """The backend's cells that a calibration is fitted on, those of `model` over `links`, and all others.

    Raises
    ------
    BadInputError : nothing to fit, or nothing left to judge.
    """

    def part(fitted: bool) -> list[Run]:
        found = [
            msgspec.structs.replace(
                run,
                cells=tuple(
                    cell
                    for cell in run.latest_cells()
                    if Plan.parse(cell.plan).backend == backend and is_fitted(cell, model, links) is fitted
                ),
            )
            for run in runs
        ]
        return [run for run in found if any(cell.status == "done" for cell in run.cells)]

    _check_fittable([cell for run in runs for cell in run.cells], backend, model, links)
    seen, unseen = part(True), part(False)
    if not unseen:
        raise BadInputError(
            f"accuracy: backend {backend}: got no cell beside those of {model} over {' and '.join(links)}, expected"
            " others to judge; fit on fewer links or give more runs"
        )
    return seen, unseen


def accuracy(
    runs: Sequence[Run],
    store: ProfileStore,
    backend: Backend,
    *,
    model: str,
    links: Sequence[str],
    fit: Callable[[Sequence[Run]], Fitted],
    bars: tuple[Bar, ...] = (),
) -> Accuracy:
    """Fit on the backend's cells of `model` over `links`, and judge on every other one of it.

    Parameters
    ----------
    fit : makes a calibration of runs.
    bars : what the figures of what is judged have to reach; those of other backends are left alone.

    Raises
    ------
    BadInputError : nothing to fit, or nothing left to judge.
    """

    seen, unseen = parted(runs, backend, model=model, links=links)
    fitted = fit(seen)
    joined = join(unseen, store, {backend: fitted.calibration})
    # Over one backend its own name would be all cells again.
    names = [[name for name in names_of(found.condition) if name != backend] for found in joined.conditions]
    groups = [(), *dict.fromkeys((name,) for place in zip(*names, strict=True) for name in place)]
    reports: dict[tuple[str, ...], Report] = {}

    def report(group: tuple[str, ...]) -> Report:
        own = tuple(name for name in group if name != backend)
        if own not in reports:
            reports[own] = report_on(joined, own)
        return reports[own]

    return Accuracy(
        backend=backend,
        emulated=any(condition.condition.emulated for condition in joined.conditions),
        model=model,
        links=tuple(links),
        fitted_cells=sum(cell.status == "done" for run in seen for cell in run.cells),
        agreeing=fitted.agreeing,
        starts=fitted.starts,
        rows=tuple(
            Row(" ".join(group) or ALL, tuple(FIGURES[figure](report(group)) for _, figure, _ in COLUMNS))
            for group in groups
        ),
        judged=judge([bar for bar in bars if not set(bar.group) & set(BACKENDS) - {backend}], report),
        not_compared=len(joined.unjoined),
    )


def models_over(runs: Sequence[Run], backend: Backend, links: Sequence[str]) -> tuple[str, ...]:
    """The models that the backend was measured with over all of the links, by name.

    Raises
    ------
    BadInputError : there is none.
    """
    cells = [cell for run in runs for cell in run.latest_cells() if cell.status == "done"]
    over: dict[str, set[str]] = {}
    for cell in cells:
        plan = Plan.parse(cell.plan)
        if plan.backend == backend:
            over.setdefault(plan.model, set()).add(cell.link_name)
    found = tuple(sorted(model for model, held in over.items() if held >= set(links)))
    if not found:
        measured = "; ".join(f"{model} over {', '.join(sorted(held))}" for model, held in sorted(over.items()))
        raise BadInputError(
            f"--each-model: backend {backend}: got no model over {' and '.join(links)}, expected one at least;"
            f" measured: {measured or 'none'}"
        )
    return found


def _check_fittable(cells: Sequence[Cell], backend: Backend, model: str, links: Sequence[str]) -> None:
    """Refuse links over which the model was not measured: a fit on fewer than those named would go by their names.

    Raises
    ------
    BadInputError : names what was measured.
    """
    done = [(Plan.parse(cell.plan), cell.link_name) for cell in cells if cell.status == "done"]
    over = dict.fromkeys(link for plan, link in done if (plan.backend, plan.model) == (backend, model))
    if not over:
        measured = ", ".join(sorted({plan.model for plan, _ in done if plan.backend == backend}))
        raise BadInputError(
            f"--model: backend {backend}: got {model}, expected one that was measured: {measured or 'none was'}"
        )
    if missing := [link for link in links if link not in over]:
        raise BadInputError(
            f"--link: backend {backend}: got {' and '.join(missing)}, expected links that {model} was measured over:"
            f" {' or '.join(over)}"
        )
