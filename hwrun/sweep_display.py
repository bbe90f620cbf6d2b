"""Running a sweep in front of a person: progress, interruption, and the table at the end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hwrun.records import MANIFEST_NAME, Cell, Scalar, read_run
from hwrun.summary import summary_rows
from hwrun.sweep import Sweep
from hwrun.sweep_cells import PlannedCell
from hwrun.sweep_plan import SweepPlan
from hwrun.testbed import Workers
from paretosim.command_line import DONE, FAILED, INTERRUPTED
from paretosim.units import format_duration

# Width of the table where stdout is no terminal: wide enough for its widest row.
_PLAIN_WIDTH = 130


def run_and_show(
    plan: SweepPlan,
    folder: Path,
    *,
    command_line: Sequence[str],
    run_id: str,
    created_utc: str,
    resume: bool,
    as_json: bool,
) -> int:
    """Run the sweep into `folder`, show how it goes on stderr and the summary on stdout; the exit code.

    Ctrl-C (or SIGTERM) ends the sweep in good order, with everything that is done kept; a second one kills.
    """
    interrupts = _Interrupts()
    with interrupts, _Display(len(plan.cells)) as display:
        sweep = Sweep(
            plan,
            folder,
            on_start=display.start,
            on_cell=display.finish,
            on_note=display.note,
            on_workers=interrupts.watch,
        )
        try:
            sweep.run(command_line, run_id, created_utc, resume=resume)
        except KeyboardInterrupt:
            interrupts.happened = True
    if interrupts.happened:
        if (folder / MANIFEST_NAME).exists():
            kept = f"what is done is kept. Go on with: hwrun sweep --resume {folder}"
        else:
            kept = "nothing was measured yet"
        print(f"hwrun: interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    cells = read_run(folder).latest_cells()
    show_summary(summary_rows(cells), folder, as_json=as_json)
    failed = [cell for cell in cells if cell.status == "failed"]
    if failed:
        print(
            f"hwrun: {len(failed)} of {len(cells)} cells failed, the first because {failed[0].reason};"
            f" try them again with: hwrun sweep --resume {folder}",
            file=sys.stderr,
        )
    return FAILED if failed else DONE


class _Interrupts:
    """SIGINT and SIGTERM: the first raises KeyboardInterrupt in the main thread, the second kills."""

    def __init__(self) -> None:
        self.happened = False
        self._workers: Workers | None = None

    def watch(self, workers: Workers | None) -> None:
        """These workers are to be killed by a second interrupt."""
        self._workers = workers

    def __enter__(self) -> None:
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.happened:
            if self._workers is not None:
                self._workers.kill()
            os._exit(INTERRUPTED)
        self.happened = True
        raise KeyboardInterrupt


class _Display:
    """Progress with the time left on a terminal; elsewhere one line a cell."""

    def __init__(self, planned: int) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._planned = planned
        self._left: int | None = None

    def __enter__(self) -> _Display:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task("starting workers", total=self._planned)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def start(self, cell: PlannedCell, left: int) -> None:
        """A cell is about to be measured; `left` are, with it."""
        if self._progress is not None:
            self._progress.update(self._task, description=str(cell), completed=self._planned - left)

    def finish(self, cell: Cell) -> None:
        """A cell was written."""
        if self._progress is None:
            print(_line(cell), file=sys.stderr, flush=True)
            return
        self._progress.advance(self._task)
        if cell.status == "failed":
            self._progress.console.print(_line(cell), markup=False)

    def note(self, text: str) -> None:
        """Something beside the cells went wrong."""
        if self._progress is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._progress.console.print(text, markup=False)


def _line(cell: Cell) -> str:
    text = f"{cell.status}: {cell.plan} {cell.mode} {cell.link_name}"
    unusual = [word for word in (cell.workers, cell.tcp_state) if word not in ("overlapped", "warm")]
    text = f"{' '.join([text, *unusual])} #{cell.repeat}"
    if cell.status != "done":
        return f"{text}: {cell.reason}; {cell.remedy}"
    return f"{text}: {format_duration(cell.latency_s())}, {cell.throughput_per_s():.4g} images/s"


def show_summary(rows: Sequence[dict[str, Scalar]], folder: Path, *, as_json: bool) -> None:
    """The table (or JSON) on stdout, and where the run is."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode({"run": str(folder), "rows": rows}), indent=1))
        print()
        return
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    table = Table(title=f"measured: {folder}")
    for heading in ("model", "link", "mode"):
        table.add_column(heading, overflow="fold")
    # A column of nothing but "tcp" says nothing.
    usual = all((row["backend"], row["workers"], row["tcp_state"]) == ("tcp", "overlapped", "warm") for row in rows)
    if not usual:
        table.add_column("workers", overflow="fold")
    for heading in ("split", "repeats", "latency", "images/s", "output", "overruns"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*_cells_of(row, usual=usual))
    console.print(table)
    for reason in dict.fromkeys(f"{row['status']}: {row['reason']}; {row['remedy']}" for row in rows if row["reason"]):
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)


def _cells_of(row: dict[str, Scalar], *, usual: bool) -> Iterator[str]:
    yield from (str(row["model"]), str(row["link"]), str(row["mode"]))
    if not usual:
        yield " ".join(str(row[name]) for name in ("backend", "workers", "tcp_state"))
    yield str(row["cuts"])
    yield f"{row['repeats_done']}/{row['repeats']}"
    latency_s, throughput = row["latency_s"], row["throughput_per_s"]
    if not isinstance(latency_s, float) or not isinstance(throughput, float):
        yield from (str(row["status"]), "", "", "")
        return
    yield format_duration(float(f"{latency_s:.4g}")) + _plus_minus(row["latency_spread"])
    yield f"{throughput:.4g}" + _plus_minus(row["throughput_spread"])
    yield "same bits" if row["bitwise_equal"] else "within 1e-4"
    yield str(row["overruns"])


def _plus_minus(spread: Scalar) -> str:
    return f" ±{spread * 100:.1f}%" if isinstance(spread, float) else ""
