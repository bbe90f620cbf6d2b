"""How commands give their answer: as text, one JSON object or CSV on stdout, and beside it a figure."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path


def add_output_options(parser: ArgumentParser, *, lines: str) -> None:
    """Add the choice between JSON and CSV, which has such `lines`, and a figure."""
    output = parser.add_argument_group("output")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help=f"one line per {lines}")
    output.add_argument("--plot", type=Path, metavar="FILE", help="also write a figure: .svg, .png or .pdf")


def write(
    arguments: Namespace,
    *,
    show: Callable[[], None],
    as_json: Callable[[], bytes],
    as_csv: Callable[[], str],
    plot: Callable[[Path], None],
) -> int:
    """Write what was asked for, the figure first: a path that cannot be is said before anything is printed."""
    if arguments.plot is not None:
        plot(arguments.plot)
    if arguments.json:
        sys.stdout.write(as_json().decode())
    elif arguments.csv:
        sys.stdout.write(as_csv())
    else:
        show()
    if arguments.plot is not None:
        print(f"figure: {arguments.plot}", file=sys.stderr)
    return 0
