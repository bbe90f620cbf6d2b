"""How accurate predictions are that a calibration makes of what it has not seen: the tables of docs/validation.md.

For each backend a calibration is fitted on one model over a few links; every other cell is predicted. No cell is on
both sides. What has to be reached (`validation/bars.py`) stands beside what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hwrun.records import Cell, Run
from paretosim.calibration import BACKENDS, Backend
from paretosim.errors import BadInputError
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from paretosim.whole_file import write_whole
from validation.bars import FIGURES, Bar, Judged, Report, judge
from validation.fitting.fit import Fitted
from validation.groups import names_of, report_on
from validation.join import join

_ALL = "all"
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
_COUNTS = frozenset({"cells", "cells_not_compared", "inversions", "decision_hypervolume"})


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
    fitted_on: str
    fitted_cells: int
    agreeing: int
    starts: int
    rows: tuple[Row, ...]
    judged: tuple[Judged, ...]
    not_compared: int


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
        fitted_on=f"{model} over {' and '.join(links)}",
        fitted_cells=sum(cell.status == "done" for run in seen for cell in run.cells),
        agreeing=fitted.agreeing,
        starts=fitted.starts,
        rows=tuple(
            Row(" ".join(group) or _ALL, tuple(FIGURES[figure](report(group)) for _, figure, _ in COLUMNS))
            for group in groups
        ),
        judged=judge([bar for bar in bars if not set(bar.group) & set(BACKENDS) - {backend}], report),
        not_compared=len(joined.unjoined),
    )


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


def as_markdown(found: Sequence[Accuracy]) -> str:
    """The tables, with what they rest on, and the bars."""
    return "\n".join(_section(one) for one in found)


def _section(found: Accuracy) -> str:
    headings = ["predicted, never fitted", *(heading for heading, _, _ in COLUMNS)]
    lines = [headings, ["---", *["---:"] * len(COLUMNS)]]
    lines += [[row.cells_of, *map(_shown, row.figures, [share for _, _, share in COLUMNS])] for row in found.rows]
    left_out = f" {found.not_compared} records have no prediction beside them." if found.not_compared else ""
    stages = "devices emulated" if found.emulated else "stages computed"
    text = (
        f"**Backend {found.backend}**, {stages}: fitted on {found.fitted_on} ({found.fitted_cells} records;"
        f" {found.agreeing} of {found.starts} starts agree).{left_out}\n\n{_table(lines)}\n"
    )
    if found.judged:
        met = sum(judged.passed for judged in found.judged)
        bars = [["bar", "asked", "found", ""], ["---", "---:", "---:", "---"], *map(_bar, found.judged)]
        over = "over all of these cells or those that are named"
        text += f"\n{met} of {len(found.judged)} bars met, {over}:\n\n{_table(bars)}\n"
    return text


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bar(judged: Judged) -> list[str]:
    bar = judged.bar
    share = bar.figure not in _COUNTS
    sign = "≤" if bar.side == "at_most" else "≥"
    limit = f"{100 * bar.limit:g} %" if share else f"{bar.limit:g}"
    return [
        " ".join((*bar.group, bar.figure.replace("_", " ").replace("mape", "MAPE").replace("p90", "P90"))),
        f"{sign} {limit}",
        _shown(judged.figure, share),
        "met" if judged.passed else "**not met**",
    ]


def _shown(figure: float | None, share: bool) -> str:
    if figure is None:
        return "–"
    return f"{100 * figure:.2f} %" if share else f"{figure:.4g}"


def marks(name: str) -> tuple[str, str]:
    """The lines of a Markdown file that the tables of that name stand between."""
    return f"<!-- accuracy {name}: written by python -m validation accuracy -->", f"<!-- accuracy {name}: end -->"


def around_marks(path: Path, *, emulated: bool) -> tuple[str, str]:
    """What a Markdown file has up to the tables of `emulated` devices, or of `computed` stages, and from there on.

    The marks are in it.

    Raises
    ------
    BadInputError : the file cannot be read or written, or has no marks.
    """
    opening, closing = marks("emulated" if emulated else "computed")
    try:
        with path.open("r+", encoding="utf-8") as file:
            before, begin, rest = file.read().partition(opening)
    except OSError as error:
        raise BadInputError(
            f"--into: {path}: {error.strerror}; expected a Markdown file that can be written"
        ) from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"--into: {path}: {error}; expected a Markdown file in UTF-8") from error
    _, end, after = rest.partition(closing)
    if not begin or not end:
        raise BadInputError(f"--into: {path} has no lines {opening!r} and {closing!r} to write between")
    return before + begin, end + after


def write_into(path: Path, found: Sequence[Accuracy]) -> None:
    """Put the tables between the marks of a Markdown file.

    Raises
    ------
    BadInputError : as `around_marks`.
    """
    before, after = around_marks(path, emulated=any(one.emulated for one in found))
    filled = f"{before}\n\n{as_markdown(found)}\n{after}"
    try:
        write_whole(path, lambda unfinished: unfinished.write_text(filled, encoding="utf-8"))
    except OSError as error:
        raise BadInputError(
            f"--into: {path}: {error.strerror}; expected a Markdown file that can be written"
        ) from error
