"""`python -m validation report RUN…`: measured cells beside their predictions, as tables and as a page to open.

Several runs become one report: repeats of the same cell are pooled, and runs that were not made under like conditions
are refused with the difference named.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hwrun.records import Run, read_run
from paretosim.calibration import Backend, Calibration
from paretosim.command_line import DONE, FAILED
from paretosim.errors import BadInputError
from paretosim.profiles import ProfileStore
from paretosim.whole_file import require_writable, write_whole
from validation.assessment import Assessment, assess
from validation.fronts import DEFAULT_TOLERANCE
from validation.held_out import join_held_out
from validation.hold_out import WAYS
from validation.join import Joined, join
from validation.report.as_json import as_json
from validation.report.page import as_html
from validation.report.terminal import console_for_tables
from validation.report.text import as_markdown, show
from validation.resampling import DEFAULT_RESAMPLING, Resampling
from validation.wording import count

PAGE = "index.html"


def configure(parser: ArgumentParser) -> None:
    """Add the options of `python -m validation report`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder that hwrun sweep wrote")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="where the report goes (default RUN/report; with several runs needed)",
    )
    parser.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    parser.add_argument(
        "--calibration",
        action="append",
        default=[],
        metavar="FILE",
        help="a calibration to predict with: a file, or the name of a shipped one; once for each backend",
    )
    parser.add_argument(
        "--hold-out",
        choices=WAYS,
        help="predict every cell by a calibration that is fitted here on all others: those of another bandwidth, delay,"
        " model or backend, or (cells) four fifths of all combinations",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=DEFAULT_TOLERANCE,
        metavar="X",
        help=f"relative, of the tolerant front scores (default {DEFAULT_TOLERANCE})",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=DEFAULT_RESAMPLING.resamples,
        metavar="N",
        help=f"of the bootstrap that intervals come from, 0 for none (default {DEFAULT_RESAMPLING.resamples})",
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_RESAMPLING.seed, help="of the bootstrap (default 0)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")


def run(arguments: Namespace) -> int:
    """Join, print and write; 1 where no cell could be compared."""
    if not 0 <= arguments.tolerance < math.inf:
        raise BadInputError(f"--tolerance: got {arguments.tolerance}, expected 0 or more, such as 0.02")
    resampling = Resampling(arguments.resamples, arguments.seed)
    output = _output_directory(arguments)
    store = ProfileStore(arguments.profiles)
    runs = [read_run(folder) for folder in arguments.runs]
    require_writable(output)  # before predictions and fits, which may take minutes
    if arguments.hold_out is None:
        joined = join(runs, store, calibrations_of(arguments.calibration, store))
    else:
        joined = _held_out(arguments, runs, store)
    assessment = assess(joined, arguments.tolerance, resampling, held_out=arguments.hold_out)
    page, unwritten = output / PAGE, None
    try:
        write_report(assessment, output)  # first, so that it is there although whoever reads stdout stops early
    except BadInputError as error:
        unwritten = error  # what was found is shown even where the page cannot be written
    try:
        if arguments.json:
            sys.stdout.write(as_json(assessment).decode())
        else:
            show(assessment, console_for_tables())
    finally:
        if unwritten is not None:
            raise unwritten  # whoever reads stdout may have left meanwhile
    print(f"report: {page}", file=sys.stderr if arguments.json else sys.stdout)
    return DONE if assessment.joined.comparisons else FAILED


def _held_out(arguments: Namespace, runs: Sequence[Run], store: ProfileStore) -> Joined:
    if arguments.calibration:
        raise BadInputError(
            "--hold-out: got --calibration too, but what is held out is predicted by calibrations that are fitted here;"
            " leave one of them out"
        )
    from validation.commands.calibrate import calibrate

    def fit(fitted: Sequence[Run], backend: Backend) -> Calibration:
        if sys.stderr.isatty():  # each takes seconds, or minutes of a large sweep
            records = count(sum(len(run.cells) for run in fitted), "record")
            print(f"fitting {backend} without one fold, on {records}", file=sys.stderr)
        found = calibrate(fitted, store, backend, name="held out", confidence=0.9, seed=arguments.seed)
        return found.calibration

    return join_held_out(runs, store, arguments.hold_out, fit, seed=arguments.seed)


def calibrations_of(names: list[str], store: ProfileStore) -> dict[Backend, Calibration]:
    """Those files or shipped names, by backend.

    Raises
    ------
    BadInputError : two of one backend.
    """
    found: dict[Backend, Calibration] = {}
    for name in names:
        calibration = store.calibration(name)
        if known := found.get(calibration.backend):
            raise BadInputError(
                f"--calibration: got {known.name} and {calibration.name}, both of backend {calibration.backend};"
                " expected one of each"
            )
        found[calibration.backend] = calibration
    return found


def _output_directory(arguments: Namespace) -> Path:
    if arguments.output is not None:
        output: Path = arguments.output
        return output
    if len(arguments.runs) > 1:
        raise BadInputError(f"-o: not given, expected a directory for the report on {len(arguments.runs)} runs")
    folder: Path = arguments.runs[0]
    return folder / "report"


def write_report(assessment: Assessment, output: Path) -> None:
    """Write index.html, report.md and report.json into `output`; those of an earlier report stay whole until then.

    Raises
    ------
    BadInputError : `output` cannot be written.
    """
    contents = {
        PAGE: as_html(assessment).encode(),
        "report.md": as_markdown(assessment).encode(),
        "report.json": as_json(assessment),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_whole(output / name, partial(Path.write_bytes, data=content))
    except OSError as error:
        raise BadInputError(f"-o: {output} cannot be written: {error.strerror}; name another with -o DIR") from error
