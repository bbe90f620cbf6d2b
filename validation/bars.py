"""Bars: what the figures of a report have to reach, as a file says, so that a change that spoils accuracy is caught.

A figure is a number of the report's own JSON, under a name that says which; nothing is computed anew but ratios and
counts. A bar is of all cells, or of a group of them by its names (`validation/groups.py`): what a slow link shows to a
ten-thousandth would drown in what a fast one shows to a hundredth. A bar that no figure answers is a failure too: a
report without fronts has not shown that its fronts are right.
"""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from paretosim.errors import BadInputError
from paretosim.profiles import nearest

Side = Literal["at_most", "at_least"]
SIDES: tuple[Side, ...] = ("at_most", "at_least")
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """A figure's name and what it may be at most, or has to be at least, over the cells that are in all of `group`."""

    figure: str
    side: Side
    limit: float
    group: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The figure, and of which cells where not of all."""
        return " ".join((*self.group, self.figure))


@dataclass(frozen=True)
class Judged:
    """A bar beside its figure, None where the report has none."""

    bar: Bar
    figure: float | None

    @property
    def passed(self) -> bool:
        """Whether the figure keeps to the bar."""
        if self.figure is None or math.isnan(self.figure):
            return False
        return self.figure <= self.bar.limit if self.bar.side == "at_most" else self.figure >= self.bar.limit


def judge(bars: Sequence[Bar], report_on: Callable[[tuple[str, ...]], Report]) -> tuple[Judged, ...]:
    """Every bar beside the figure in the report on its group."""
    reports = {group: report_on(group) for group in dict.fromkeys(bar.group for bar in bars)}
    return tuple(Judged(bar, FIGURES[bar.figure](reports[bar.group])) for bar in bars)


def read_bars(path: Path) -> tuple[Bar, ...]:
    """The bars in a TOML file of two tables, `at_most` and `at_least`, of figures' names and numbers.

    They are of all cells; those of a group stand in a table of its name, or in one another where it has several.

    Raises
    ------
    BadInputError : no such file, no TOML, or something in it that is no bar.
    """
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise BadInputError(f"--bars: {path} cannot be read: {error.strerror}; expected a TOML file of bars") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"--bars: {path}: {error}; expected TOML") from error
    bars = tuple(_bars_in(found, (), f"--bars: {path}"))
    if not bars:
        raise BadInputError(f"--bars: {path}: holds no bar; a gate without one lets everything through")
    return bars


def _bars_in(tables: Mapping[str, Any], group: tuple[str, ...], where: str) -> Iterator[Bar]:
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BadInputError(
                f"{where}: got {'.'.join((*group, name))} = {table!r} outside of the tables {' and '.join(SIDES)}"
            )
        if name not in SIDES:
            yield from _bars_in(table, (*group, name), where)
            continue
        for figure, limit in table.items():
            place = f"{where}: {'.'.join((*group, name, figure))}"
            if figure not in FIGURES:
                raise BadInputError(
                    f"{place}: no such figure, expected one of {', '.join(FIGURES)}{nearest(figure, list(FIGURES))}"
                )
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
                raise BadInputError(f"{place}: got {limit!r}, expected a number")
            yield Bar(figure, "at_most" if name == "at_most" else "at_least", float(limit), group)


def _headline(report: Report) -> Mapping[str, Any]:
    """Scores of the cells that say most: those that no fit has seen, where there are any."""
    bases = report["bases"]
    return bases[0]["scores"] if bases else {}


def _conditions(report: Report) -> list[Mapping[str, Any]]:
    """Those of the headline's basis alone."""
    bases = report["bases"]
    return [condition for condition in report["conditions"] if bases and condition["basis"] == bases[0]["basis"]]


def _score(quantity: str, score: str) -> Callable[[Report], float | None]:
    def of(report: Report) -> float | None:
        found = _headline(report).get(quantity)
        return None if found is None else float(found[score])

    return of


def _noise_floor(quantity: str) -> Callable[[Report], float | None]:
    def of(report: Report) -> float | None:
        found = _headline(report).get(quantity)
        return None if found is None or found["noise_floor"] is None else float(found["noise_floor"])

    return of


def _beyond_noise(quantity: str) -> Callable[[Report], float | None]:
    """MAPE, and nothing where it is no larger than the cells' own noise floor: such an error nobody can show."""

    def of(report: Report) -> float | None:
        mape, floor = _score(quantity, "mape")(report), _noise_floor(quantity)(report)
        return mape if mape is None or floor is None or mape > floor else 0.0

    return of


def _of_additive(quantity: str) -> Callable[[Report], float | None]:
    """How large the error is beside that of the simplest model of the same cells."""

    def of(report: Report) -> float | None:
        own, additive = (_headline(report).get(name) for name in (quantity, f"additive_{quantity}"))
        if own is None or additive is None:
            return None
        return float(own["mape"] / additive["mape"]) if additive["mape"] else math.inf

    return of


def _worst(quantity: str) -> Callable[[Report], float | None]:
    """The largest mean error of any one condition: a mode that is wrong does not hide behind those that are right."""

    def of(report: Report) -> float | None:
        scores = [condition["scores"][quantity] for condition in _conditions(report)]
        return max((float(score["mape"]) for score in scores if score is not None), default=None)

    return of


def _stages_of_latency(report: Report) -> float | None:
    """Of all cells the largest difference between stages as predicted and measured, beside the cell's latency.

    Sums and maxima do not tell which stage is which; this does.
    """
    found = [
        sum(abs(stage["predicted"] - stage["measured"]) for stage in cell["stages_s"]) / cell["latency_s"]["measured"]
        for condition in _conditions(report)
        for cell in condition["cells"]
    ]
    return max(found, default=None)


def _rest_errors(report: Report) -> list[float]:
    """Of each lone batch, signed and relative to what was measured: of its latency beside computing and transfers.

    That is dispatch, overheads, handing over and the result's way: a millisecond that any latency hides. Stages are
    taken as measured: a predicted one has its overhead in it, which no timer of a record sees.
    """

    def predicted_s(cell: Mapping[str, Any]) -> float:
        computing_s = sum(stage["measured"] for stage in cell["stages_s"])
        return float(cell["latency_s"]["predicted"] - computing_s - sum(t["predicted"] for t in cell["transfers_s"]))

    cells = [cell for condition in _conditions(report) for cell in condition["cells"]]
    known = [cell for cell in cells if cell["rest_s"] is not None and cell["rest_s"] > 0]
    return [predicted_s(cell) / cell["rest_s"] - 1 for cell in known]


def _rest_mape(report: Report) -> float | None:
    errors = _rest_errors(report)
    return statistics.fmean(map(abs, errors)) if errors else None


def _rest_bias(report: Report) -> float | None:
    errors = _rest_errors(report)
    return statistics.median(errors) if errors else None


def _fronts(report: Report) -> list[Mapping[str, Any]]:
    return [condition["front"] for condition in _conditions(report) if condition["front"] is not None]


def _least_hypervolume(report: Report) -> float | None:
    return min((float(front["decision_hypervolume"]) for front in _fronts(report)), default=None)


def _most_regret(report: Report) -> float | None:
    regrets = [float(front[of]["regret"]) for front in _fronts(report) for of in ("latency", "throughput")]
    return max(regrets, default=None)


def _inversions(report: Report) -> float:
    return float(
        sum(
            len(condition["rank"][quantity]["inversions"])
            for condition in _conditions(report)
            for quantity in ("latency", "throughput")
        )
    )


def _compared(report: Report) -> float:
    return float(sum(basis["cells"] for basis in report["bases"]))


def _not_compared(report: Report) -> float:
    return float(len(report["unjoined"]) + report["missing"])


_QUANTITIES = ("latency", "throughput", "transfer", "transfer_shaped")
# By name, fractions unless they are counts.
FIGURES: dict[str, Callable[[Report], float | None]] = {
    **{
        f"{quantity}_{name}": _score(quantity, score)
        for quantity in _QUANTITIES
        for name, score in (("mape", "mape"), ("p90", "p90"), ("bias", "bias"), ("within_10_percent", "within"))
    },
    **{f"{quantity}_noise_floor": _noise_floor(quantity) for quantity in _QUANTITIES},
    **{f"{quantity}_mape_beyond_noise": _beyond_noise(quantity) for quantity in _QUANTITIES},
    **{f"{quantity}_worst_condition": _worst(quantity) for quantity in ("latency", "throughput")},
    **{f"{quantity}_of_additive": _of_additive(quantity) for quantity in ("latency", "throughput")},
    "rest_mape": _rest_mape,
    "rest_bias": _rest_bias,
    "stages_of_latency": _stages_of_latency,
    "inversions": _inversions,
    "decision_hypervolume": _least_hypervolume,
    "regret": _most_regret,
    "cells": _compared,
    "cells_not_compared": _not_compared,
}
