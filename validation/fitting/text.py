"""A fit in a terminal: each parameter with its interval and how it is known, and what the fit did for its own cells."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from paretosim.calibration import Calibration
from paretosim.units import format_duration, format_number
from validation.fitting.fit import Fitted, FittedParameter
from validation.scores import ErrorScore, Scores
from validation.wording import percent

_DRAWN = {
    "runs": "whole runs drawn again",
    "repeats": "repeats of each cell drawn again, as there is one run",
    "cells": "cells drawn again, as there is one repeat of each",
}


def show(fitted: Fitted, scores: tuple[Scores | None, Scores], calibration: Calibration) -> None:
    """Print the parameters, the phases and the errors before and after."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width: let no column be cut
    level = calibration.interval_level or 0.0
    console.print(_parameters(fitted, level))
    probed = fitted.probed
    if probed is not None:
        console.print(
            Text(
                f"The probe's own message and its answer took {format_duration(probed.per_message_s, digits=3)}, by"
                " threads that answer at once; those of a pipeline have slept, and take longer to wake.",
                style="dim",
            ),
            soft_wrap=True,
        )
    console.print(
        Text(
            f"{fitted.agreeing} of {fitted.starts} starts agree; intervals of {level:.0%}: {_DRAWN[fitted.drawn]}.",
            style="dim",
        ),
        soft_wrap=True,
    )
    console.print()
    console.print(_phases(fitted))
    console.print()
    console.print(_errors(*scores))


def _parameters(fitted: Fitted, level: float) -> Table:
    table = _table("Parameters")
    for heading, justify in (
        ("parameter", "left"),
        ("value", "right"),
        (f"{level:.0%} interval", "right"),
        ("known", "left"),
        ("", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for parameter in fitted.parameters:
        interval = parameter.interval
        ends = "–" if interval is None else f"{_value(parameter, interval[0])} … {_value(parameter, interval[1])}"
        table.add_row(parameter.path, _value(parameter, parameter.value), ends, parameter.known, parameter.why)
    return table


def _value(parameter: FittedParameter, value: float | None) -> str:
    if value is None:
        return "infinite"
    if parameter.unit == "s":
        return format_duration(value, digits=3) if value else "0"
    if parameter.unit == "bytes/s":
        return f"{format_number(value / 1e9, 3)} GB/s"
    return f"{format_number(value, 3) if value else '0'} {parameter.unit}".rstrip()


def _phases(fitted: Fitted) -> Table:
    table = _table("Phases: median size of relative errors on the fitted cells")
    for heading in ("phase", "times", "before", "after"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase in fitted.phases:
        table.add_row(phase.phase, str(phase.observations), percent(phase.before), percent(phase.after))
    return table


def _errors(before: Scores | None, after: Scores) -> Table:
    table = _table("Predictions of the fitted cells: what the fit was made on, and no test of it")
    for heading in ("quantity", "cells", "MAPE before", "MAPE after", "P90 before", "P90 after", "noise floor"):
        table.add_column(heading, justify="left" if heading == "quantity" else "right")
    for name in ("latency", "throughput", "transfer"):
        found: ErrorScore | None = getattr(after, name)
        if found is None:
            continue
        was: ErrorScore | None = None if before is None else getattr(before, name)
        table.add_row(
            name, str(found.cells), percent(was.mape) if was else "–", percent(found.mape),
            percent(was.p90) if was else "–", percent(found.p90), percent(found.noise_floor),
        )  # fmt: skip
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )  # fmt: skip
