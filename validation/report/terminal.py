"""Tables in a terminal: as many columns as its width has room for, and no word broken for want of it.

Numbers need their whole width; words wrap between words, and get what is left. What has no room is left out by its
priority, and the line below says so: the written report has all of it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from paretosim.console import stdout_console
from validation.report.tables import Column, Table

if TYPE_CHECKING:
    from rich.console import Console

# Characters in a file or a pipe, unless COLUMNS says otherwise.
WIDTH_ELSEWHERE = 120
_GAP = 2
# Words wrap rather than push a column out, but not into a narrower column than this.
_NARROWEST_WORDS = 18


def console_for_tables() -> Console:
    """A console on stdout that these tables fit."""
    return stdout_console(WIDTH_ELSEWHERE)


def print_table(console: Console, table: Table, *, elsewhere: str = "") -> None:
    """Print the table as far as there is room, and its notes; nothing of a table without rows.

    Parameters
    ----------
    elsewhere : where the columns are that had no room, such as "report.md".
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    if not table.rows:
        return
    table = table.said_once()
    kept, left_out = fitting(table, console.width)
    chosen = table.only(kept)
    widths = _widths(chosen, console.width)
    shown = RichTable(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, heading, width in zip(chosen.columns, _headings(chosen.columns, widths), widths, strict=True):
        # Records may hold any text, so none of it is read as markup.
        justify: Literal["left", "right"] = "left" if column.words else "right"
        shown.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=not column.words, min_width=width)
    for row in chosen.rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print()
    console.print(Text(table.title, style="bold"))
    console.print(shown)
    told = list(table.notes)
    if left_out:
        names = ", ".join(table.columns[place].name for place in left_out)
        told.append(f"No room here for: {names}{f' (see {elsewhere})' if elsewhere else ''}.")
    print_aside(console, *told)


def print_aside(console: Console, *sentences: str) -> None:
    """A dim line or more, that says how to read what is above."""
    from rich.text import Text

    if sentences:
        console.print(Text(" ".join(sentences), style="dim"))


def fitting(table: Table, width: int) -> tuple[list[int], list[int]]:
    """Places of the columns that fit into that many characters, and of those left out.

    >>> table = Table("", (Column("split"), Column("measured", priority=1)), (("1", "0.25 s"),))
    >>> fitting(table, 80), fitting(table, 10)
    (([0, 1], []), ([0], [1]))
    """
    kept = list(range(len(table.columns)))
    while sum(_widths(table.only(kept), width)) + _GAP * (len(kept) - 1) > width:
        spare = [place for place in kept if table.columns[place].priority]
        if not spare:
            break
        kept.remove(max(spare, key=lambda place: (table.columns[place].priority, place)))
    return kept, [place for place in range(len(table.columns)) if place not in kept]


def _widths(table: Table, width: int) -> list[int]:
    """The least width of each column: of numbers the widest cell, of words a narrow column that breaks no word."""
    found = []
    for place, column in enumerate(table.columns):
        cells = [row[place] for row in table.rows]
        longest = max(map(len, cells), default=0)
        if column.words:
            word = max((len(part) for cell in cells for part in cell.split()), default=0)
            longest = min(longest, max(_NARROWEST_WORDS, min(word, width // 3)))
        # A group's name stands above its first column alone.
        first = place == 0 or table.columns[place - 1].group != column.group
        found.append(max(longest, *map(len, column.heading.split()), len(column.group) if first else 0))
    return found


def _headings(columns: Sequence[Column], widths: Sequence[int]) -> list[str]:
    """Headings in lines that fit their columns, and above the first of each group its name."""
    wrapped = [textwrap.wrap(column.heading, width) for column, width in zip(columns, widths, strict=True)]
    most = max(map(len, wrapped))
    found, last = [], ""
    for column, lines in zip(columns, wrapped, strict=True):
        group = [column.group if column.group != last else ""] if any(c.group for c in columns) else []
        found.append("\n".join([*group, *[""] * (most - len(lines)), *lines]))
        last = column.group
    return found
