"""Bars of kept data written anew from what is found, by the rule that `.ci/bars-reference.toml` states.

Kept data do not vary, so bars lie close: errors may be a quarter larger than they are, a median signed error may be off
by a fifth of the mean error to either side, shares half a point lower; counts stay what they are. All are rounded away
from what is found.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paretosim.errors import BadInputError
from paretosim.whole_file import write_whole
from validation.bars import SIDES, Bar, Judged, Side

_LARGER_ERROR = 1.25
_BIAS_OF_ERROR = 0.2
_LOWER_SHARE = 0.005
_COUNTS = frozenset({"cells", "cells_not_compared", "inversions"})
_SHARES = ("_within_10_percent", "decision_hypervolume")
_BIAS = "_bias"
_NUMBER = re.compile(r"^(?P<figure>\w+)\s*=\s*(?P<limit>[^\s#]+)(?P<comment>.*)$", re.DOTALL)


def with_mean_errors(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """The bars, and with every one of a median signed error one of the mean error by which it is renewed."""
    mean = [Bar(_mean_of(bar), "at_most", math.inf, bar.group) for bar in bars if bar.figure.endswith(_BIAS)]
    return tuple(dict.fromkeys((*bars, *mean)))


def renew(path: Path, judged: Sequence[Judged]) -> tuple[tuple[Bar, Bar], ...]:
    """Write the file's numbers anew, comments and order as they are; returns bars as they were and are, if looser.

    Parameters
    ----------
    judged : what was found, of every bar of the file, and of those that `with_mean_errors` adds.

    Raises
    ------
    BadInputError : a bar has no figure, several, or no rule, or the file cannot be written.
    """
    found: dict[tuple[tuple[str, ...], str], float | None] = {}
    for one in judged:
        if found.setdefault((one.bar.group, one.bar.figure), one.figure) != one.figure:
            raise BadInputError(
                f"--renew-bars: {one.bar.title}: backends differ in it; put it into a table of each, or give --backend"
            )
    looser: list[tuple[Bar, Bar]] = []

    def limit_of(bar: Bar) -> float:
        renewed = Bar(bar.figure, bar.side, _limit(bar, lambda figure: found.get((bar.group, figure))), bar.group)
        loosened = renewed.limit - bar.limit if bar.side == "at_most" else bar.limit - renewed.limit
        if loosened > 0:
            looser.append((bar, renewed))
        return renewed.limit

    text = "".join(_rewritten(path.read_text(encoding="utf-8"), limit_of))
    try:
        write_whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"--renew-bars: {path}: {error.strerror}; expected a file that can be written") from error
    return tuple(looser)


def _rewritten(text: str, limit_of: Callable[[Bar], float]) -> Iterator[str]:
    group: tuple[str, ...] = ()
    side: Side = "at_most"
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            *group_names, last = _keys(tomllib.loads(line))
            group, side = tuple(group_names), next(one for one in SIDES if one == last)
        elif number := _NUMBER.match(line):
            bar = Bar(number["figure"], side, float(number["limit"]), group)
            line = f"{bar.figure} = {limit_of(bar):g}{number['comment']}"
        yield line


def _keys(table: Mapping[str, Any]) -> Iterator[str]:
    for name, inner in table.items():
        yield name
        yield from _keys(inner)


def _limit(bar: Bar, found: Callable[[str], float | None]) -> float:
    figure = found(bar.figure)
    if figure is None:
        raise BadInputError(f"--renew-bars: {bar.title}: no figure was found; take the bar out, or give more runs")
    upward = bar.side == "at_most"
    if bar.figure in _COUNTS:
        return figure
    if bar.figure.endswith(_BIAS):
        room = _BIAS_OF_ERROR * (found(_mean_of(bar)) or 0.0)
        return _rounded(figure + room if upward else figure - room, room, upward=upward)
    if bar.figure.endswith(_SHARES) and not upward:
        return _rounded(figure - _LOWER_SHARE, _LOWER_SHARE, upward=False)
    if not upward:
        raise BadInputError(f"--renew-bars: {bar.title}: no rule says how much lower it may be; expected a bar at most")
    return _rounded(_LARGER_ERROR * figure, figure, upward=True)


def _rounded(value: float, scale: float, *, upward: bool) -> float:
    """To two significant digits of `scale`."""
    if scale == 0:
        return value
    digits = 1 - math.floor(math.log10(abs(scale)))
    factor = 10.0**digits
    return round((math.ceil if upward else math.floor)(value * factor) / factor, digits)


def _mean_of(bar: Bar) -> str:
    return f"{bar.figure.removesuffix(_BIAS)}_mape"
