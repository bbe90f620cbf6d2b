"""The tables of docs/validation.md: accuracy of each backend, and what it is by the model that was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paretosim.errors import BadInputError
from paretosim.whole_file import write_whole
from validation.accuracy import ALL, COLUMNS, Accuracy
from validation.bars import Judged

_COUNTS = frozenset({"cells", "cells_not_compared", "inversions", "decision_hypervolume"})
# Columns of the table by model: heading, row and figure.
_BY_MODEL: tuple[tuple[str, str, str], ...] = (
    ("latency MAPE", ALL, "latency_mape"),
    ("throughput MAPE", ALL, "throughput_mape"),
    ("transfer MAPE", ALL, "transfer_mape"),
    ("… shaped links", ALL, "transfer_shaped_mape"),
    ("… unshaped", "unshaped", "transfer_mape"),
    ("noise floor", "unshaped", "transfer_noise_floor"),
    ("order inversions", ALL, "inversions"),
    ("least decision hypervolume", ALL, "decision_hypervolume"),
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


def by_model_as_markdown(found: Sequence[Accuracy]) -> str:
    """One row for each backend and model that was fitted on."""
    headings = ["backend", "fitted on", *(heading for heading, _, _ in _BY_MODEL)]
    lines = [headings, ["---", "---", *["---:"] * len(_BY_MODEL)]]
    for one in found:
        figures = [_shown(one.figure(row, figure), figure not in _COUNTS) for _, row, figure in _BY_MODEL]
        lines.append([one.backend, one.model, *figures])
    if any(one.judged for one in found):
        lines[0].append("bars met")
        lines[1].append("---")
        for line, one in zip(lines[2:], found, strict=True):
            missed = [_title(judged) for judged in one.judged if not judged.passed]
            met = f"{len(one.judged) - len(missed)} of {len(one.judged)}"
            line.append(f"{met}; **missed: {', '.join(missed)}**" if missed else met)
    return f"Fitted over {' and '.join(found[0].links)}:\n\n{_table(lines)}\n"


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bar(judged: Judged) -> list[str]:
    bar = judged.bar
    share = bar.figure not in _COUNTS
    sign = "≤" if bar.side == "at_most" else "≥"
    limit = f"{100 * bar.limit:g} %" if share else f"{bar.limit:g}"
    return [
        _title(judged),
        f"{sign} {limit}",
        _shown(judged.figure, share),
        "met" if judged.passed else "**not met**",
    ]


def _title(judged: Judged) -> str:
    return judged.bar.title.replace("_", " ").replace("mape", "MAPE").replace("p90", "P90")


def _shown(figure: float | None, share: bool) -> str:
    if figure is None:
        return "–"
    return f"{100 * figure:.2f} %" if share else f"{figure:.4g}"


def marks(name: str) -> tuple[str, str]:
    """The lines of a Markdown file that the tables of that name stand between."""
    return f"<!-- accuracy {name}: written by python -m validation accuracy -->", f"<!-- accuracy {name}: end -->"


def around_marks(path: Path, name: str) -> tuple[str, str]:
    """What a Markdown file has up to the tables of that name, and from there on, the marks in it.

    Raises
    ------
    BadInputError : the file cannot be read or written, or has no such marks.
    """
    opening, closing = marks(name)
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


def write_into(path: Path, name: str, tables: str) -> None:
    """Put tables between the marks of that name in a Markdown file.

    Raises
    ------
    BadInputError : as `around_marks`.
    """
    before, after = around_marks(path, name)
    filled = f"{before}\n\n{tables}\n{after}"
    try:
        write_whole(path, lambda unfinished: unfinished.write_text(filled, encoding="utf-8"))
    except OSError as error:
        raise BadInputError(
            f"--into: {path}: {error.strerror}; expected a Markdown file that can be written"
        ) from error
