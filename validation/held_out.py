"""Runs joined with each of their cells predicted by a calibration that was fitted on the others.

What is held out together, and so what a prediction has not seen, is the folds' to say (`hold_out`). A calibration is of
one backend: where whole backends are held out, what was fitted on another one is used as if it were theirs, which is
what one would have to do without a measurement of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from hwrun.records import Cell, Run
from paretosim.calibration import BACKENDS, Backend, Calibration
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from validation.errors import FitError
from validation.hold_out import Fold, HoldOutBy, folds
from validation.join import Joined, JoinedCondition, Unjoined, join, order_of

Fit = Callable[[Sequence[Run], Backend], Calibration]


def join_held_out(runs: Sequence[Run], store: ProfileStore, by: HoldOutBy, fit: Fit, *, seed: int = 0) -> Joined:
    """All cells of `runs`, each beside a prediction by a fit of the other folds.

    Parameters
    ----------
    fit : a calibration of one backend from the done cells of runs.

    Raises
    ------
    BadInputError : all cells are alike in what is to be held out.
    UnlikeConditionsError : as in `join`.
    """
    done = [cell for run in runs for cell in run.latest_cells() if cell.status == "done"]
    parts = [join([_only(run, lambda cell: cell.status != "done") for run in runs], store)]
    parts += [_of_fold(runs, store, fold, fit) for fold in folds(done, by, seed=seed)]
    return Joined(
        runs=tuple(runs),
        conditions=_merged([condition for part in parts for condition in part.conditions]),
        unjoined=tuple(sorted((entry for part in parts for entry in part.unjoined), key=_order)),
        superseded=sum(len(run.cells) - len(run.latest_cells()) for run in runs),
    )


def _of_fold(runs: Sequence[Run], store: ProfileStore, fold: Fold, fit: Fit) -> Joined:
    """The cells that a fold holds out, predicted by what the rest of it says."""
    held = {id(cell) for cell in fold.held_out}
    seen = [_only(run, lambda cell: cell.status == "done" and id(cell) not in held) for run in runs]
    unseen = [_only(run, lambda cell: id(cell) in held) for run in runs]
    needed = dict.fromkeys(_backend(cell) for cell in fold.held_out)
    known = [backend for backend in BACKENDS if any(_backend(cell) == backend for cell in fold.fitted)]
    calibrations: dict[Backend, Calibration] = {}
    failures: dict[str, str] = {}
    for backend in BACKENDS:
        if backend not in needed:
            continue
        source = backend if backend in known else known[0]
        try:
            found = fit([_of_backend(run, source) for run in seen], source)
        except FitError as error:
            failures[backend] = str(error)
            continue
        calibrations[backend] = msgspec.structs.replace(
            found, name=f"without {fold.name}", backend=backend, fitted_on=(f"cells other than {fold.name}",)
        )
    fitted = [_only(run, lambda cell: _backend(cell) in calibrations) for run in unseen]
    joined = join(fitted, store, calibrations)
    without = [
        Unjoined(
            run_id=run.manifest.run_id,
            plan=cell.plan,
            mode=str(cell.mode),
            link_name=cell.link_name,
            repeat=cell.repeat,
            status="refused",
            reason=f"held out with {fold.name}, and the rest cannot be fitted: {failures[_backend(cell)]}",
            remedy="measure more of the others, or hold out something else",
        )
        for run in unseen
        for cell in run.cells
        if _backend(cell) not in calibrations
    ]
    return replace(joined, unjoined=(*joined.unjoined, *without))


def _only(run: Run, wanted: Callable[[Cell], bool]) -> Run:
    return msgspec.structs.replace(run, cells=tuple(filter(wanted, run.latest_cells())))


def _of_backend(run: Run, backend: Backend) -> Run:
    return _only(run, lambda cell: _backend(cell) == backend)


def _backend(cell: Cell) -> str:
    return Plan.parse(cell.plan).backend


def _merged(conditions: Sequence[JoinedCondition]) -> tuple[JoinedCondition, ...]:
    """Conditions that several folds hold parts of, in one; in the order in which a join has them."""
    merged: dict[object, JoinedCondition] = {}
    for found in conditions:
        known = merged.get(found.condition)
        if known is not None:
            comparisons = sorted((*known.comparisons, *found.comparisons), key=lambda comparison: comparison.cuts)
            notes = tuple(dict.fromkeys((*known.notes, *found.notes)))
            found = replace(known, comparisons=tuple(comparisons), notes=notes)
        merged[found.condition] = found
    return tuple(sorted(merged.values(), key=lambda found: order_of(found.condition)))


def _order(entry: Unjoined) -> tuple[str, str, str, str, str, int]:
    return (entry.status, entry.run_id, entry.plan, entry.mode, entry.link_name, entry.repeat)
