"""`python -m validation report RUN…`: measured cells beside their predictions, as tables and as a page to open.

Several runs each get a section of their own and are never pooled: they may differ in host, versions or speed.
"""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from hwrun.records import read_run
from paretosim.command_line import DONE, FAILED
from paretosim.errors import BadInputError
from paretosim.profiles import ProfileStore
from validation.assessment import Assessment, assess
from validation.errors import MissingExtraError
from validation.fronts import DEFAULT_TOLERANCE
from validation.join import join
from validation.report_json import as_json
from validation.report_text import as_markdown, show

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
        "--tolerance",
        type=float,
        default=DEFAULT_TOLERANCE,
        metavar="X",
        help=f"relative, of the tolerant front scores (default {DEFAULT_TOLERANCE})",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")


def run(arguments: Namespace) -> int:
    """Join, print and write; 1 where no cell could be compared."""
    if not 0 <= arguments.tolerance < math.inf:
        raise BadInputError(f"--tolerance: got {arguments.tolerance}, expected 0 or more, such as 0.02")
    output = _output_directory(arguments)
    store = ProfileStore(arguments.profiles)
    assessments = [assess(join(read_run(folder), store), arguments.tolerance) for folder in arguments.runs]
    if arguments.json:
        sys.stdout.write(as_json(assessments).decode())
    else:
        _show(assessments)
    sys.stdout.flush()  # what was found is shown even where the page cannot be written
    page = write_report(assessments, output)
    print(f"report: {page}", file=sys.stderr if arguments.json else sys.stdout)
    return DONE if any(assessment.joined.comparisons for assessment in assessments) else FAILED


def _output_directory(arguments: Namespace) -> Path:
    if arguments.output is not None:
        output: Path = arguments.output
        return output
    if len(arguments.runs) > 1:
        raise BadInputError(f"-o: not given, expected a directory for the report on {len(arguments.runs)} runs")
    folder: Path = arguments.runs[0]
    return folder / "report"


def write_report(assessments: Sequence[Assessment], output: Path) -> Path:
    """Write index.html, report.md and report.json into `output`, and return the path of the page.

    Raises
    ------
    BadInputError : `output` cannot be written.
    MissingExtraError : matplotlib is not installed.
    """
    try:
        from validation.report_html import as_html
    except ImportError as error:
        raise MissingExtraError(
            f"report: {error.name} is not installed, expected the extra for figures; pip install 'paretosim[report]'"
        ) from error
    contents = {
        PAGE: as_html(assessments).encode(),
        "report.md": as_markdown(assessments).encode(),
        "report.json": as_json(assessments),
    }
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (output / name).write_bytes(content)
    except OSError as error:
        raise BadInputError(f"-o: {output} cannot be written: {error.strerror}; name another with -o DIR") from error
    return output / PAGE


def _show(assessments: Sequence[Assessment]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width: let no column be cut
    show(assessments, console)
