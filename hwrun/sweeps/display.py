"""Running a sweep in front of a person: progress, interruption, and the table at the end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from hwrun.planned_cell import PlannedCell
from hwrun.records import MANIFEST_NAME, Cell, read_run
from hwrun.sweeps.duration import TimeLeft, cell_s, spoken
from hwrun.sweeps.plan import SweepPlan
from hwrun.sweeps.summary import summary_rows
from hwrun.sweeps.summary_table import show_summary
from hwrun.sweeps.sweep import Sweep, resume_command
from hwrun.testbed import Workers
from paretosim.command_line import DONE, FAILED, INTERRUPTED
from paretosim.units import format_duration


def run_and_show(
    plan: SweepPlan,
    folder: Path,
    *,
    command_line: Sequence[str],
    run_id: str,
    created_utc: str,
    resume: bool,
    as_json: bool,
    max_time_s: float | None = None,
) -> int:
    """Run the sweep into `folder`, show how it goes on stderr and the summary on stdout; the exit code.

    That is FAILED where a cell failed, and where none was measured, all being skipped or the time over: whatever comes
    next has nothing to work on.

    Ctrl-C (or SIGTERM) ends the sweep in good order, with everything that is done kept; a second one kills.
    """
    interrupts = _Interrupts()
    again = resume_command(folder)
    left = 0
    with interrupts, _Display(plan) as display:
        sweep = Sweep(
            plan,
            folder,
            on_start=display.start,
            on_cell=display.finish,
            on_note=display.note,
            on_workers=interrupts.watch,
            max_time_s=max_time_s,
        )
        try:
            left = sweep.run(command_line, run_id, created_utc, resume=resume)
        except KeyboardInterrupt:
            interrupts.happened = True
    if interrupts.happened:
        if (folder / MANIFEST_NAME).exists():
            kept = f"what is done is kept. Go on with: {again}"
        else:
            kept = "nothing was measured yet"
        print(f"hwrun: interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    is_begun = (folder / MANIFEST_NAME).exists()  # else the sweep has removed what it had not used
    cells = read_run(folder).latest_cells() if is_begun else ()
    if left and not cells:
        longer = f"Go on with: {again} --max-time …" if is_begun else "Start it again with a longer --max-time"
        print(
            "hwrun: --max-time was over when workers stood and before a cell was begun; nothing was measured, and all"
            f" {left} cells are left. {longer}",
            file=sys.stderr,
        )
        return FAILED
    show_summary(summary_rows(cells), folder, as_json=as_json)
    if left:
        print(
            f"hwrun: --max-time is over; {left} cells are left. Go on with: {again}",
            file=sys.stderr,
        )
    failed = [cell for cell in cells if cell.status == "failed"]
    if failed:
        more_time = " --max-cell-time …" if "--max-cell-time" in str(failed[0].remedy) else ""
        print(
            f"hwrun: {len(failed)} of {len(cells)} cells failed, the first because {failed[0].reason};"
            f" {failed[0].remedy}. Try them again with: {again}{more_time}",
            file=sys.stderr,
        )
    if cells and not left and all(cell.status == "skipped" for cell in cells):
        print(
            f"hwrun: nothing was measured: all {len(cells)} cells were skipped, the first because {cells[0].reason};"
            f" {cells[0].remedy}",
            file=sys.stderr,
        )
        return FAILED
    return FAILED if failed else DONE


class _Interrupts:
    """SIGINT and SIGTERM: the first raises KeyboardInterrupt in the main thread, the second kills."""

    def __init__(self) -> None:
        self.happened = False
        self._workers: tuple[Workers, ...] = ()

    def watch(self, workers: tuple[Workers, ...]) -> None:
        """These workers are to be killed by a second interrupt."""
        self._workers = workers

    def __enter__(self) -> None:
        self._previous = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.happened:
            for workers in self._workers:
                workers.kill()
            os._exit(INTERRUPTED)
        self.happened = True
        raise KeyboardInterrupt


class _Display:
    """Progress with the time left on a terminal; elsewhere one line a cell."""

    def __init__(self, plan: SweepPlan) -> None:
        self._console = Console(stderr=True, markup=False, emoji=False)
        self._progress: Progress | None = None
        self._planned = len(plan.cells)
        self._estimates_s = {
            cell.cell_id: cell_s(plan, cell) for cell in plan.cells if plan.skip_reason(cell) is None
        }  # fmt: skip
        self._time_left = TimeLeft(self._estimates_s)

    def __enter__(self) -> _Display:
        if self._console.is_terminal:
            # What is measured gets whatever width is left, and is cut short there.
            columns = (
                TextColumn(
                    "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
                ),
                BarColumn(bar_width=12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=17)),
            )
            self._progress = Progress(*columns, console=self._console, expand=True)
            self._task = self._progress.add_task("starting workers", total=self._planned, left="")
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def start(self, cell: PlannedCell, left: tuple[PlannedCell, ...]) -> None:
        """A cell is about to be measured; `left` are still to be, it among them."""
        if self._progress is None:
            return
        self._time_left.keep({one.cell_id for one in left})
        self._progress.update(
            self._task, description=_in_short(cell), completed=self._planned - len(left), left=self._left()
        )

    def finish(self, cell: Cell) -> None:
        """A cell was written."""
        if self._progress is None:
            print(_line(cell), file=sys.stderr, flush=True)
            return
        self._time_left.done(cell.cell_id)
        self._progress.update(self._task, advance=1, left=self._left())
        if cell.status == "failed":
            self._progress.console.print(_line(cell))

    def _left(self) -> str:
        return f"{spoken(self._time_left.seconds())} left"

    def note(self, text: str) -> None:
        """Something beside the cells went wrong."""
        if self._progress is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._progress.console.print(text)


def _in_short(cell: PlannedCell) -> str:
    """A cell in the few words that a terminal has room for.

    The cuts stand for the plan, whose devices are the same in every cell of most sweeps.
    """
    cuts = "+".join(str(stage.last) for stage in cell.plan.stages[:-1])
    return f"{cell.plan.model} @{cuts} {cell.link_name} {cell.mode} #{cell.repeat}"


def _line(cell: Cell) -> str:
    text = f"{cell.status}: {cell.plan} {cell.mode} {cell.link_name}"
    unusual = [word for word in (cell.workers, cell.tcp_state) if word not in ("overlapped", "warm")]
    text = f"{' '.join([text, *unusual])} #{cell.repeat}"
    if cell.status != "done":
        return f"{text}: {cell.reason}; {cell.remedy}"
    return f"{text}: {format_duration(cell.latency_s())}, {cell.throughput_per_s():.4g} images/s"
