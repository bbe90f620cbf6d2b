"""How accurate predictions are that a calibration makes of what it has not seen: the table of docs/calibration.md.

The calibration is fitted on one model over a few links; every other cell is predicted. No cell is on both sides.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hwrun.records import Cell, Run
from paretosim.calibration import Backend, Calibration
from paretosim.errors import BadInputError
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from validation.assessment import assess
from validation.bars import FIGURES
from validation.fitting.fit import Fitted
from validation.fronts import DEFAULT_TOLERANCE
from validation.join import Joined, JoinedCondition, join
from validation.report.as_json import as_json
from validation.resampling import Resampling

_ALL = "all"
BEGIN, END = "<!-- accuracy: written by python -m validation accuracy -->", "<!-- accuracy: end -->"
# Columns by heading: a figure's name (validation/bars.py), and whether it is a fraction to be shown in percent.
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("cells", "cells", False),
    ("latency MAPE", "latency_mape", True),
    ("P90", "latency_p90", True),
    ("throughput MAPE", "throughput_mape", True),
    ("P90", "throughput_p90", True),
    ("transfer MAPE", "transfer_mape", True),
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
    """What the calibration was fitted on, in words, and the rows over all else."""

    fitted_on: str
    fitted_cells: int
    rows: tuple[Row, ...]


def is_fitted(cell: Cell, model: str, links: Sequence[str]) -> bool:
    """Whether the calibration may see the cell."""
    return Plan.parse(cell.plan).model == model and cell.link_name in links


def accuracy(
    runs: Sequence[Run],
    store: ProfileStore,
    backend: Backend,
    *,
    model: str,
    links: Sequence[str],
    fit: Callable[[Sequence[Run]], Fitted],
) -> Accuracy:
    """Fit on the cells of `model` over `links`, and judge on every other one.

    Parameters
    ----------
    fit : makes a calibration of runs.

    Raises
    ------
    BadInputError : nothing to fit, or nothing left to judge.
    """

    def part(fitted: bool) -> list[Run]:
        found = [
            msgspec.structs.replace(
                run, cells=tuple(cell for cell in run.cells if is_fitted(cell, model, links) is fitted)
            )
            for run in runs
        ]
        return [run for run in found if any(cell.status == "done" for cell in run.cells)]

    seen, unseen = part(True), part(False)
    if not seen or not unseen:
        raise BadInputError(
            f"accuracy: got {'no cell of ' + model + ' over ' + ' or '.join(links) if not seen else 'no other cell'},"
            " expected some to fit and others to judge; name other links or give more runs"
        )
    calibration: Calibration = fit(seen).calibration
    joined = join(unseen, store, {backend: calibration})
    names = [[_ALL, *_groups(condition)] for condition in joined.conditions]
    groups = dict.fromkeys(
        name for place in range(len(names[0]) if names else 0) for name in dict.fromkeys(own[place] for own in names)
    )
    return Accuracy(
        fitted_on=f"{model} over {' and '.join(links)}",
        fitted_cells=sum(cell.status == "done" for run in seen for cell in run.cells),
        rows=tuple(
            Row(group, _figures(joined, [c for c, own in zip(joined.conditions, names, strict=True) if group in own]))
            for group in groups
        ),
    )


def _groups(condition: JoinedCondition) -> tuple[str, str, str]:
    """The rows that a condition counts in, beside the one of all."""
    own = condition.condition
    return own.link_name, own.model, f"mode {own.mode.name}"


def _figures(joined: Joined, conditions: Sequence[JoinedCondition]) -> tuple[float | None, ...]:
    own = dataclasses.replace(joined, conditions=tuple(conditions))
    report = json.loads(as_json(assess(own, DEFAULT_TOLERANCE, Resampling(2))))
    return tuple(FIGURES[figure](report) for _, figure, _ in COLUMNS)


def as_markdown(found: Accuracy) -> str:
    """The table, with what it rests on."""
    headings = ["predicted, never fitted", *(heading for heading, _, _ in COLUMNS)]
    lines = [headings, ["---", *["---:"] * len(COLUMNS)]]
    lines += [[row.cells_of, *map(_shown, row.figures, [share for _, _, share in COLUMNS])] for row in found.rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"Fitted on {found.fitted_on} ({found.fitted_cells} records).\n\n{table}\n"


def _shown(figure: float | None, share: bool) -> str:
    if figure is None:
        return "–"
    return f"{100 * figure:.2f} %" if share else f"{figure:.4g}"


def write_into(path: Path, text: str) -> None:
    """Put the text between the marks of a Markdown file.

    Raises
    ------
    BadInputError : the file cannot be read or written, or has no marks.
    """
    try:
        content = path.read_text()
        before, begin, rest = content.partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise BadInputError(f"--into: {path} has no lines {BEGIN!r} and {END!r} to write between")
        path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    except OSError as error:
        raise BadInputError(f"--into: {path}: {error.strerror}") from error
