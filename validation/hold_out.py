"""Hold-out: which cells a fit may see and which judge it. Whole values of a quantity are left out, never batches.

Batches, and repeats, of one cell share whatever was wrong with it: a fit that saw some of them has seen the others. So
`cells` keeps all repeats of a combination on one side, and the other ways leave out everything that was measured at
one bandwidth, one delay, of one model or with one backend.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from hwrun.records import Cell
from paretosim.errors import BadInputError
from paretosim.plan import Plan
from paretosim.units import format_duration, format_rate

HoldOutBy = Literal["bandwidth", "delay", "model", "backend", "cells"]
WAYS: tuple[HoldOutBy, ...] = get_args(HoldOutBy)
# Of combinations, where none of the other ways is asked for.
CELL_FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """One division: `name` is what is left out; cells are in the order they were given in."""

    name: str
    fitted: tuple[Cell, ...]
    held_out: tuple[Cell, ...]


def folds(cells: Sequence[Cell], by: HoldOutBy, *, seed: int = 0) -> tuple[Fold, ...]:
    """Every division of these cells; each cell is held out in exactly one of them.

    Parameters
    ----------
    seed : of the order in which `cells` deals combinations out.

    Raises
    ------
    BadInputError : all cells are alike in it, so that there is nothing to fit on where they are left out.
    """
    if by not in WAYS:
        raise BadInputError(f"--hold-out: got {by!r}, expected one of {', '.join(WAYS)}")
    key = _dealt(cells, seed) if by == "cells" else _KEYS[by]
    names = dict.fromkeys(map(key, cells))
    if len(names) < 2:
        alone = next(iter(names), "no cell")
        remedy = "measure more" if by == "cells" else "a fifth of all combinations in turn: --hold-out cells"
        raise BadInputError(f"--hold-out {by}: got {alone} alone, expected cells of two or more; {remedy}")
    return tuple(
        Fold(
            name,
            tuple(cell for cell in cells if key(cell) != name),
            tuple(cell for cell in cells if key(cell) == name),
        )
        for name in sorted(names)
    )


def _bandwidth(cell: Cell) -> str:
    return "unshaped" if cell.link_asked is None else format_rate(cell.link_asked.rate_bps)


def _delay(cell: Cell) -> str:
    return "unshaped" if cell.link_asked is None else format_duration(cell.link_asked.one_way_delay_s)


_KEYS: dict[HoldOutBy, Callable[[Cell], str]] = {
    "bandwidth": _bandwidth,
    "delay": _delay,
    "model": lambda cell: Plan.parse(cell.plan).model,
    "backend": lambda cell: Plan.parse(cell.plan).backend,
}


def _dealt(cells: Sequence[Cell], seed: int) -> Callable[[Cell], str]:
    """Combinations dealt out in random order; all repeats of one go together."""
    combinations = list(dict.fromkeys(map(_combination, cells)))
    random.Random(seed).shuffle(combinations)
    count = min(CELL_FOLDS, len(combinations))
    dealt = {one: f"{number % count + 1} of {count}" for number, one in enumerate(combinations)}
    return lambda cell: dealt[_combination(cell)]


def _combination(cell: Cell) -> Hashable:
    link = cell.link_asked
    return (
        cell.plan, str(cell.mode), cell.link_name, None if link is None else (link.rate_bps, link.one_way_delay_s),
        cell.source, cell.sink, cell.tcp_state,
    )  # fmt: skip
