"""Tables as plain columns and strings, so that terminal, Markdown and page show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from validation.wording import NONE


@dataclass(frozen=True)
class Column:
    """A column: its heading, under that of the group it belongs to, if any.

    `words` are left-aligned and may wrap. `priority` says how soon a narrow terminal leaves the column out: 0 is always
    there, of the others the largest goes first. `once`: where all rows have the same, it is said below and not row by
    row.
    """

    heading: str
    group: str = ""
    words: bool = False
    priority: int = 0
    once: bool = False

    @property
    def name(self) -> str:
        """Group and heading in one line."""
        return f"{self.group} {self.heading}".strip()


@dataclass(frozen=True)
class Table:
    """A title, columns, rows of text; below them notes of its own, and the key to reading all tables of its kind.

    Notes and key are whole sentences.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    key: str = ""

    @property
    def told(self) -> str:
        """Key and notes together."""
        return " ".join(filter(None, (self.key, *self.notes)))

    def only(self, kept: Sequence[int]) -> Table:
        """Those of the columns alone, by their places."""
        return replace(
            self,
            columns=tuple(self.columns[place] for place in kept),
            rows=tuple(tuple(row[place] for place in kept) for row in self.rows),
        )

    def said_once(self) -> Table:
        """Without the columns that say the same in every row: a note says it, unless that is nothing.

        A number of a single row stays: that it is the same everywhere is no news.
        """
        same = {}
        for place, column in enumerate(self.columns):
            texts = {row[place] for row in self.rows}
            if column.once and len(texts) == 1 and (len(self.rows) > 1 or column.words or texts <= {"", NONE}):
                (same[place],) = texts
        said = ", ".join(f"{self.columns[place].name} {text}" for place, text in same.items() if text not in ("", NONE))
        kept = [place for place in range(len(self.columns)) if place not in same]
        return replace(self.only(kept), notes=(*self.notes, f"In every row: {said}.") if said else self.notes)


def words(*headings: str) -> tuple[Column, ...]:
    """Columns of words."""
    return tuple(Column(heading, words=True) for heading in headings)
