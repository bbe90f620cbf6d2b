"""A fit in a terminal: each parameter with its interval and how it is known, and what the fit did for its own cells."""

from __future__ import annotations

from paretosim.calibration import Calibration
from paretosim.units import format_duration, format_number
from validation.fitting.fit import Fitted, FittedParameter
from validation.report.tables import Column, Table
from validation.report.terminal import console_for_tables, print_table
from validation.scores import ErrorScore, Scores
from validation.wording import NONE, percent

_DRAWN = {
    "runs": "whole runs drawn again",
    "repeats": "repeats of each cell drawn again, as not every cell was measured in two runs",
    "cells": "cells drawn again, as there is one repeat of each",
}


def show(fitted: Fitted, scores: tuple[Scores | None, Scores], calibration: Calibration) -> None:
    """Print the parameters, the phases and the errors before and after."""
    console = console_for_tables()
    for table in (_parameters(fitted, calibration.interval_level or 0.0), _phases(fitted), _errors(*scores)):
        print_table(console, table, elsewhere="--json")
    console.print()
    for caution in cautions(calibration):
        console.print(f"Caution: {caution}", soft_wrap=not console.is_terminal)


def cautions(calibration: Calibration) -> tuple[str, ...]:
    """What keeps the fit from being the one that these cells ask for."""
    if not calibration.is_disputed:
        return ()
    return (
        f"only {calibration.agreeing} of {calibration.starts} starts ended at this minimum, so that other values may"
        " fit these cells as well and predict others differently; fit cells of more links, modes or splits as well",
    )


def _parameters(fitted: Fitted, level: float) -> Table:
    rows, reasons = [], []
    for parameter in fitted.parameters:
        interval = parameter.interval
        ends = NONE if interval is None else f"{_value(parameter, interval[0])} … {_value(parameter, interval[1])}"
        rows.append((_short(parameter.path), _value(parameter, parameter.value), ends, parameter.known))
        reasons += [f"{_short(parameter.path)}: {_short(parameter.why)}."] if parameter.why else []
    notes = [f"{fitted.agreeing} of {fitted.starts} starts agree; intervals of {level:.0%}: {_DRAWN[fitted.drawn]}."]
    notes += ["*: of any device."] if any(row[0].startswith("*.") for row in rows) else []
    if fitted.probed is not None:
        notes.append(
            f"The probe's own message and its answer took {format_duration(fitted.probed.per_message_s, digits=3)}, by"
            " threads that answer at once; those of a pipeline have slept, and take longer to wake."
        )
    columns = (
        Column("parameter", words=True), Column("value"), Column(f"{level:.0%} interval"), Column("known", words=True),
    )  # fmt: skip
    return Table("Parameters", columns, tuple(rows), (*reasons, *notes))


def _short(text: str) -> str:
    """Paths without where they stand in the file."""
    return text.replace("devices.", "")


def _value(parameter: FittedParameter, value: float | None) -> str:
    if value is None:
        return "infinite"
    if parameter.unit == "s":
        return format_duration(value, digits=3) if value else "0"
    if parameter.unit == "bytes/s":
        return f"{format_number(value / 1e9, 3)} GB/s"
    return f"{format_number(value, 3) if value else '0'} {parameter.unit}".rstrip()


def _phases(fitted: Fitted) -> Table:
    return Table(
        "Phases: median size of relative errors on the fitted cells",
        (Column("phase", words=True), Column("times"), Column("before"), Column("after")),
        tuple(
            (phase.phase, str(phase.observations), percent(phase.before), percent(phase.after))
            for phase in fitted.phases
        ),
    )


def _errors(before: Scores | None, after: Scores) -> Table:
    rows = []
    for name in ("latency", "throughput", "transfer"):
        found: ErrorScore | None = getattr(after, name)
        if found is None:
            continue
        was: ErrorScore | None = None if before is None else getattr(before, name)
        rows.append(
            (
                name, str(found.cells), percent(was.mape) if was else NONE, percent(found.mape),
                percent(was.p90) if was else NONE, percent(found.p90), percent(found.noise_floor),
            )
        )  # fmt: skip
    return Table(
        "Predictions of the fitted cells: what the fit was made on, and no test of it",
        (
            Column("quantity", words=True), Column("cells"),
            *(Column(when, score) for score in ("MAPE", "P90") for when in ("before", "after")),
            Column("noise floor"),
        ),
        tuple(rows),
    )  # fmt: skip
