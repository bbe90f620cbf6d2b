"""Tables as plain headings and strings, so that terminal, Markdown and page show the same ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A title, headings, rows of text, and a note below; columns named in `text_columns` hold words."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    text_columns: frozenset[str] = frozenset()
