"""`hwrun export`: a run as a table with one line a cell, or a cell's timeline."""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from hwrun.errors import BadUsageError, HwrunError, RecordError
from hwrun.export.cell_rows import COLUMNS, as_csv, cell_rows
from hwrun.export.timeline import aligned_clocks, as_chrome_trace
from hwrun.records import Cell, Run, Scalar, read_run
from paretosim.command_line import DONE
from paretosim.console import stdout_console
from paretosim.whole_file import write_whole

_STDOUT = Path("-")
_PLAIN_WIDTH = 160
# What cells differ in, beside where they are cut and which repeat they are.
_CONDITIONS = (
    "model", "devices", "hosts", "batch", "backend", "workers", "tcp_state", "source", "sink", "mode", "link",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `hwrun export`."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a folder that hwrun sweep wrote")
    add("--csv", type=Path, metavar="FILE", help="one line a cell; - is standard output")
    add("--parquet", type=Path, metavar="FILE", help="the same table as Parquet; - as well")
    add("--timeline", type=Path, metavar="FILE", help="one cell, for ui.perfetto.dev or chrome://tracing; - as well")
    add("--cell", metavar="ID", help="which cell's timeline, the beginning of its id is enough (default: first done)")
    parser.epilog = "Without a file: lists the cells and their ids."


def run(arguments: argparse.Namespace) -> int:
    """Write what was asked for; without it, list the cells."""
    if arguments.cell is not None and arguments.timeline is None:
        raise BadUsageError("--cell: says whose timeline is wanted, expected --timeline FILE with it")
    if [arguments.csv, arguments.parquet, arguments.timeline].count(_STDOUT) > 1:
        raise BadUsageError(
            "--csv, --parquet, --timeline: got - more than once, expected one of them at most on standard output"
        )
    try:
        found = read_run(arguments.run)
    except RecordError as error:
        raise BadUsageError(str(error)) from error
    rows = cell_rows(found)
    if found.dropped_lines:
        print(f"hwrun: {found.dropped_lines} half-written line(s) left out", file=sys.stderr)
    if arguments.csv is not None:
        _write(arguments.csv, "--csv", as_csv(rows).encode())
    if arguments.parquet is not None:
        _write(arguments.parquet, "--parquet", _as_parquet(rows))
    if arguments.timeline is not None:
        cell = chosen_cell(found, arguments.cell)
        _write(arguments.timeline, "--timeline", as_chrome_trace(found, cell))
        print(
            f"hwrun: the timeline is of cell {cell.cell_id}: {cell.plan} {cell.mode} {cell.link_name}", file=sys.stderr
        )
        for host, clock in aligned_clocks(found, cell).items():
            if clock.error_s > 0:
                print(f"hwrun: clock of {host}: {clock}", file=sys.stderr)
    if arguments.csv is None and arguments.parquet is None and arguments.timeline is None:
        _list(rows)
    return DONE


def chosen_cell(run: Run, beginning: str | None) -> Cell:
    """The cell whose id begins so; without one, the first that is done.

    Raises
    ------
    BadUsageError : no such cell, or several.
    """
    cells = run.latest_cells()
    if beginning is None:
        done = [cell for cell in cells if cell.status == "done"]
        if not done:
            raise BadUsageError(f"{run.path}: holds no cell that is done, expected one to show; resume the sweep")
        return done[0]
    found = [cell for cell in cells if cell.cell_id.startswith(beginning)]
    if len(found) != 1:
        raise BadUsageError(
            f"--cell: got {beginning!r}, with which {len(found)} of {len(cells)} ids begin, expected one; list them"
            f" with: hwrun export {shlex.quote(str(run.path))}"
        )
    return found[0]


def _write(path: Path, option: str, content: bytes) -> None:
    if path == _STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    try:
        write_whole(path, lambda unfinished: unfinished.write_bytes(content))
    except OSError as error:
        raise HwrunError(f"{option} {path}: cannot be written: {error.strerror or error}; give another") from error
    print(f"wrote {path}", file=sys.stderr)


def _as_parquet(rows: Sequence[dict[str, Scalar]]) -> bytes:
    import pyarrow  # type: ignore[import-untyped,import-not-found,unused-ignore]  # or not installed
    from pyarrow import parquet  # type: ignore[import-untyped,import-not-found,unused-ignore]  # likewise

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    content = io.BytesIO()
    parquet.write_table(table, content)
    return content.getvalue()


def _list(rows: Sequence[dict[str, Scalar]]) -> None:
    """Cells and their ids, in 80 columns: what all have in common is said once, above them."""
    console = stdout_console(_PLAIN_WIDTH)
    differing = [name for name in _CONDITIONS if len({row[name] for row in rows}) > 1]
    shared = [f"{_in_words(name)} {rows[0][name]}" for name in _CONDITIONS if rows and name not in differing]
    if shared:
        console.print(f"every cell: {'; '.join(shared)}", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", no_wrap=True)
    if differing:  # in one column, which breaks between words where there is little room
        table.add_column(", ".join(map(_in_words, differing)), overflow="fold")
    for heading in ("split", "repeat", "status"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        conditions = [" ".join(str(row[name]) for name in differing)] if differing else []
        table.add_row(str(row["cell_id"]), *conditions, *(str(row[name]) for name in ("cuts", "repeat", "status")))
    console.print(table)


def _in_words(name: str) -> str:
    return name.replace("_", " ")
