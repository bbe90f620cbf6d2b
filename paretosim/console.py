"""The console that tables and remarks are printed on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def stdout_console(width_elsewhere: int | None = None) -> Console:
    """A console on stdout, as wide as the terminal.

    Parameters
    ----------
    width_elsewhere : characters in a file or a pipe, which have no width of their own, unless COLUMNS says how many;
        None: as rich has it, 80.
    """
    from rich.console import Console

    # What is printed is text, never markup, and its numbers are coloured where it is made.
    console = Console(highlight=False, markup=False, emoji=False)
    if width_elsewhere is not None and not console.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
        console.width = width_elsewhere
    return console
