"""`python -m validation reference`: draw the reference design, measure what is left of it, and keep it compact.

Each sweep of the design is a call of `hwrun sweep` into a folder of its own under the working directory, resumed where
one was interrupted; finished ones are left alone. So the command can be ended and given again as often as one likes.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from hwrun.records import MANIFEST_NAME, read_run
from paretosim.command_line import DONE, FAILED
from paretosim.errors import BadInputError
from paretosim.profiles import ProfileStore
from paretosim.units import format_duration
from validation.compaction import compact
from validation.reference_design import DESIGNS, Design, Sweep, draw, total_s


def configure(parser: ArgumentParser) -> None:
    """Add the options of `python -m validation reference`."""
    parser.add_argument("--design", choices=tuple(DESIGNS), default="emulated", help="which set (default emulated)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn, and of the order of cells (default 0)")
    parser.add_argument("--dry-run", action="store_true", help="print the design and how long it takes, and stop")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="sweeps with this in their name")
    parser.add_argument("--most", type=int, metavar="N", help="plans of each sweep at most: a pilot")
    parser.add_argument("--repeats", type=int, metavar="N", help="instead of the design's 5: a pilot")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("runs/reference"), metavar="DIR", help="runs (default runs/reference)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="also write finished sweeps compact into this folder")
    parser.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")


def run(arguments: Namespace) -> int:
    """Draw, measure, compact; 1 where a sweep failed."""
    import dataclasses

    for name in ("most", "repeats"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise BadInputError(f"--{name}: got {value}, expected 1 or more")
    design = DESIGNS[arguments.design]
    if arguments.repeats is not None:
        design = dataclasses.replace(design, repeats=arguments.repeats)
    store = ProfileStore(arguments.profiles)
    sweeps = [s for s in draw(design, store, arguments.seed, arguments.most) if _wanted(s, arguments.only)]
    if not sweeps:
        raise BadInputError(f"--only: no sweep has {' or '.join(arguments.only)} in its name; see --dry-run")
    _describe(sweeps, design)
    if arguments.dry_run:
        return DONE
    for sweep in sweeps:
        for option, directory in (("-o", arguments.output), ("--keep", arguments.keep)):
            if directory is not None:
                _check_made_by(sweep, design, arguments.seed, option, directory / sweep.name)
    failed = [sweep.name for sweep in sweeps if not _measured(sweep, design, arguments)]
    for name in failed:
        print(f"reference: {name} is not finished; give the command again to go on", file=sys.stderr)
    return FAILED if failed else DONE


def _wanted(sweep: Sweep, only: Sequence[str]) -> bool:
    return not only or any(text in sweep.name for text in only)


def _describe(sweeps: Sequence[Sweep], design: Design) -> None:
    for sweep in sweeps:
        plans = ", ".join(f"{plan.model} {plan.split}" for plan in sweep.plans)
        print(f"{sweep.name}: {sweep.cells} cells, about {format_duration(round(sweep.estimate_s))}: {plans}")
    cells = sum(sweep.cells for sweep in sweeps)
    speed = "real computation" if design.speed is None else f"emulated at {design.speed:g} times their speed"
    print(f"{len(sweeps)} sweeps, {cells} cells, {speed}, about {total_s(sweeps) / 60:.0f} min")


def _check_made_by(sweep: Sweep, design: Design, seed: int, option: str, folder: Path) -> None:
    """Refuse a folder with another sweep in it, such as a pilot's: it would pass for this one, finished or begun.

    Raises
    ------
    BadInputError : names what it was asked for otherwise.
    """
    if not (folder / MANIFEST_NAME).exists():
        return
    if differences := sweep.differences(read_run(folder).manifest, design, seed):
        raise BadInputError(
            f"{option}: {folder} holds a sweep with {'; '.join(differences)}; give another folder with {option}, or the"
            " options that it was made with"
        )


def _measured(sweep: Sweep, design: Design, arguments: Namespace) -> bool:
    """Whether the sweep is finished, after measuring what is left of it."""
    folder: Path = arguments.output / sweep.name
    if not _finished(folder):
        print(f"reference: {sweep.name}", flush=True)
        command = [sys.executable, "-m", "hwrun.cli", "sweep"]
        if (folder / MANIFEST_NAME).exists():
            command += ["--resume", str(folder)]
        else:
            command += [*sweep.options(design, arguments.seed), "-o", str(folder)]
            command += [part for profiles in arguments.profiles for part in ("--profiles", str(profiles))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                process.wait()  # it was interrupted by the same key, and takes its workers and its network away first
                raise
        if code != 0 or not _finished(folder):
            return False
    if arguments.keep is not None and not (arguments.keep / sweep.name / MANIFEST_NAME).exists():
        compact(read_run(folder), arguments.keep / sweep.name)
    return True


def _finished(folder: Path) -> bool:
    """Whether every planned cell of a run has been measured, or skipped for a reason."""
    if not (folder / MANIFEST_NAME).exists():
        return False
    found = read_run(folder)
    ended = [cell for cell in found.latest_cells() if cell.status != "failed"]
    return len(ended) == found.manifest.cells_planned
