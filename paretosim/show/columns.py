"""Aligned columns for a terminal. rich's own table lays 40 rows out in a fifth of the whole command's time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from rich.text import Text

GAP = 2
# The heading of the column that names the lines of either device alone, too.
NAMES = "after block"


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column: heading (one or two lines), cells, side, and how soon it is left out where width is short.

    `priority` 0 is never left out; of the others the largest goes first.
    """

    heading: str
    cells: tuple[str, ...]
    align: Literal["left", "right"] = "right"
    priority: int = 0

    @property
    def width(self) -> int:
        """Characters of the widest cell or heading line."""
        return max(len(line) for line in (*self.cells, *self.heading.split("\n")))

    def lines(self, height: int) -> list[str]:
        """Of the heading so many lines, the first ones empty where it has fewer, and all cells, at this width."""
        heading = self.heading.split("\n")
        form = f"{{:{'>' if self.align == 'right' else '<'}{self.width}}}".format
        return [form(line) for line in (*[""] * (height - len(heading)), *heading, *self.cells)]


def fitting(columns: Sequence[Column], width: int) -> tuple[list[Column], list[Column]]:
    """Columns that fit in `width` characters, and those left out for it."""
    kept, left_out = list(columns), []
    while sum(column.width + GAP for column in kept) - GAP > width and any(column.priority for column in kept):
        least = max(kept, key=lambda column: column.priority)
        kept.remove(least)
        left_out.append(least)
    return kept, left_out


def fitting_named(
    columns: Sequence[Column], width: int, short_names: Sequence[str]
) -> tuple[list[Column], list[Column]]:
    """As `fitting`; where the column of names has no room, the first column has short ones in its first lines.

    The names are those of lines that are no splits (`short_names`, one for each), which "after block" has in full.
    """
    kept, left_out = fitting(columns, width)
    if any(column.heading == NAMES for column in kept):
        return kept, left_out
    first = columns[0]
    named = Column(heading=first.heading, cells=(*short_names, *first.cells[len(short_names) :]))
    return fitting([named, *columns[1:]], width)


def too_narrow(left_out: Sequence[Column]) -> str:
    """A line that says which columns had no room, and who the lines without their names are; empty if all had."""
    if not left_out:
        return ""
    names = ", ".join(column.heading.replace("\n", " ") for column in left_out)
    alone = "; first, second: that device alone" if any(column.heading == NAMES for column in left_out) else ""
    return f"(too narrow for: {names}; widen the terminal, or use --csv{alone})\n"


def aligned(columns: Sequence[Column], styles: Sequence[str]) -> Text:
    """The columns side by side, one line per row in that row's style, under a bold heading."""
    text = Text(no_wrap=True, end="")
    height = max(column.heading.count("\n") + 1 for column in columns)
    rows = zip(*(column.lines(height) for column in columns), strict=True)
    for row, style in zip(rows, [*["bold"] * height, *styles], strict=True):
        text.append((" " * GAP).join(row).rstrip() + "\n", style)
    return text
