"""`python -m validation gate RUN_OR_REPORT… --bars FILE`: fails where predictions are worse than bars allow."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hwrun.records import MANIFEST_NAME, read_run
from paretosim.command_line import DONE, FAILED
from paretosim.errors import BadInputError
from paretosim.profiles import ProfileStore
from validation.bars import Judged, Report, judge, read_bars
from validation.commands.report import calibrations_of
from validation.groups import report_on
from validation.join import join
from validation.report.as_json import SCHEMA_VERSION

REPORT_NAME = "report.json"


def configure(parser: ArgumentParser) -> None:
    """Add the options of `python -m validation gate`."""
    parser.add_argument(
        "measured", nargs="+", type=Path, metavar="RUN_OR_REPORT",
        help="folders that hwrun sweep wrote, or one report.json (or its folder)",
    )  # fmt: skip
    parser.add_argument("--bars", type=Path, required=True, metavar="FILE", help="TOML of tables at_most and at_least")
    parser.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    parser.add_argument(
        "--calibration", action="append", default=[], metavar="FILE", help="to predict runs with; once for each backend"
    )
    parser.add_argument("--json", action="store_true", help="print bars and figures as one JSON object")


def run(arguments: Namespace) -> int:
    """Judge and print; 1 where a figure misses its bar."""
    bars = read_bars(arguments.bars)
    made = reports_of(arguments.measured, arguments.profiles, arguments.calibration)
    try:
        judged = judge(bars, made)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{arguments.measured[0]}: no whole report: {type(error).__name__} {error}; expected the report.json that"
            " validation report wrote; write it again"
        ) from error
    failed = [one for one in judged if not one.passed]
    if arguments.json:
        print(json.dumps(_as_object(judged), indent=1))
    else:
        for one in judged:
            print(line_of(one))
    if failed:
        print(f"gate: {len(failed)} of {len(judged)} bars missed", file=sys.stderr)
        return FAILED
    return DONE


def reports_of(
    measured: Sequence[Path], profiles: Sequence[Path], calibrations: list[str]
) -> Callable[[tuple[str, ...]], Report]:
    """The report's own JSON on each group: of all cells as it was written, or made now from runs.

    Raises
    ------
    BadInputError : neither a report nor runs.
    """
    if all((path / MANIFEST_NAME).exists() for path in measured):
        store = ProfileStore(profiles)
        joined = join([read_run(path) for path in measured], store, calibrations_of(calibrations, store))
        return lambda group: report_on(joined, group)
    if len(measured) > 1:
        raise BadInputError(
            f"gate: got {', '.join(map(str, measured))}, expected folders that hwrun sweep wrote, or one report.json"
        )
    if calibrations:
        raise BadInputError("--calibration: got it with a report, whose predictions are made already; give the runs")
    path = measured[0] / REPORT_NAME if measured[0].is_dir() else measured[0]
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise BadInputError(
            f"{measured[0]}: neither a run ({MANIFEST_NAME} in it) nor a report ({path}: {error.strerror})"
        ) from error
    except ValueError as error:
        raise BadInputError(f"{path}: {error}; expected the report.json that validation report wrote") from error
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != SCHEMA_VERSION or "bases" not in found:
        raise BadInputError(f"{path}: schema_version: got {version}, expected {SCHEMA_VERSION}; write the report again")

    def whole(group: tuple[str, ...]) -> Report:
        if group:
            raise BadInputError(
                f"--bars: got bars of {' '.join(group)} alone, expected those of all cells with a report, which has no"
                " other scores; give the runs"
            )
        return report

    report: Report = found
    return whole


def line_of(judged: Judged) -> str:
    """A bar beside its figure, as one line."""
    bar = judged.bar
    figure = "none in the report" if judged.figure is None else f"{judged.figure:.6g}"
    word = "passed" if judged.passed else "MISSED"
    return f"{word}  {bar.title}: {figure}, {bar.side.replace('_', ' ')} {bar.limit:g}"


def _as_object(judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "passed": all(one.passed for one in judged),
        "bars": [
            {
                "group": one.bar.group,
                "figure": one.bar.figure,
                "side": one.bar.side,
                "limit": one.bar.limit,
                "found": one.figure,
                "passed": one.passed,
            }
            for one in judged
        ],
    }
