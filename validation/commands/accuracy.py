"""`python -m validation accuracy RUN… --model M --link A --link B`: fit there, predict all else, and print how well."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hwrun.records import Run, read_run
from paretosim.calibration import BACKENDS, Backend
from paretosim.command_line import DONE, FAILED
from paretosim.errors import BadInputError
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from validation.accuracy import COLUMNS, Accuracy, accuracy, models_over
from validation.accuracy_tables import around_marks, as_markdown, by_model_as_markdown, write_into
from validation.bar_renewal import renew, with_mean_errors
from validation.bars import read_bars
from validation.commands.calibrate import calibrate
from validation.fitting.fit import DEFAULT_CONFIDENCE


def configure(parser: ArgumentParser) -> None:
    """Add the options of `python -m validation accuracy`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder that hwrun sweep wrote")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="NAME", help="the model whose cells are fitted")
    model.add_argument(
        "--each-model", action="store_true", help="one fit for each that was measured over all of these links"
    )
    parser.add_argument("--link", action="append", required=True, metavar="NAME", help="over this link; repeatable")
    parser.add_argument(
        "--backend",
        action="append",
        choices=BACKENDS,
        help="of this one alone; repeatable (default all that runs hold)",
    )
    parser.add_argument(
        "--bars", type=Path, metavar="FILE", help="TOML of bars as gate takes it; exits 1 where one is missed"
    )
    parser.add_argument(
        "--renew-bars",
        action="store_true",
        help="write the numbers in FILE anew from what is found: for data that were measured anew",
    )
    parser.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    parser.add_argument("--seed", type=int, default=0, help="of the fit's starts (default 0)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--into", type=Path, metavar="FILE", help="also write the tables between their marks in this file"
    )
    output.add_argument("--json", action="store_true", help="print the tables as one JSON object")


def run(arguments: Namespace) -> int:
    """Fit, judge and print; 1 where a figure misses its bar."""
    if arguments.renew_bars and (arguments.bars is None or arguments.each_model):
        raise BadInputError("--renew-bars: expected --bars FILE, whose numbers it writes, and --model NAME beside it")
    store = ProfileStore(arguments.profiles)
    bars = () if arguments.bars is None else read_bars(arguments.bars)
    runs = [read_run(folder) for folder in arguments.runs]
    tables = "emulated" if any(run.manifest.emulated for run in runs) else "computed"
    if arguments.each_model:
        tables += " by model"
    if arguments.into is not None:  # before a fit, which may take minutes
        around_marks(arguments.into, tables)
    found = [
        accuracy(
            runs, store, backend, model=model, links=arguments.link,
            bars=with_mean_errors(bars) if arguments.renew_bars else bars,
            fit=lambda own, of=backend: calibrate(  # type: ignore[misc]  # the loop's backend, as it is now
                own, store, of, name="fitted", confidence=DEFAULT_CONFIDENCE, seed=arguments.seed
            ),
        )
        for backend in _backends(runs, arguments.backend)
        for model in (models_over(runs, backend, arguments.link) if arguments.each_model else [arguments.model])
    ]  # fmt: skip
    if arguments.renew_bars:
        judged = [one for backend in found for one in backend.judged]
        for was, now in renew(arguments.bars, judged):
            print(f"looser: {was.title} was {was.side.replace('_', ' ')} {was.limit:g}, is {now.limit:g}")
        return DONE
    if arguments.json:
        print(json.dumps({"schema_version": 1, "backends": [_as_object(one) for one in found]}, indent=1))
        shown = ""
    else:
        shown = by_model_as_markdown(found) if arguments.each_model else as_markdown(found)
        print(shown, end="")
    if arguments.into is not None:
        write_into(arguments.into, tables, shown)
    missed = [
        f"{one.backend}{f' fitted on {one.model}' if arguments.each_model else ''}: {judged.bar.title}"
        for one in found
        for judged in one.judged
        if not judged.passed
    ]
    if missed:
        judged_in_all = sum(len(one.judged) for one in found)
        print(f"accuracy: {len(missed)} of {judged_in_all} bars missed: {'; '.join(missed)}", file=sys.stderr)
        return FAILED
    return DONE


def _backends(runs: Sequence[Run], asked: list[Backend] | None) -> list[Backend]:
    """The backends to judge: those that are asked for, or all of the runs' done cells.

    Raises
    ------
    BadInputError : there is none.
    """
    if asked is not None:
        return list(dict.fromkeys(asked))
    held = {Plan.parse(cell.plan).backend for run in runs for cell in run.latest_cells() if cell.status == "done"}
    if not held:
        raise BadInputError("accuracy: the runs hold no done cell; resume the sweep first")
    return [backend for backend in BACKENDS if backend in held]


def _as_object(found: Accuracy) -> dict[str, Any]:
    names = [figure for _, figure, _ in COLUMNS]
    return {
        **asdict(found),
        "fitted_on": found.fitted_on,
        "rows": [{"cells_of": row.cells_of, **dict(zip(names, row.figures, strict=True))} for row in found.rows],
        "judged": [{**asdict(one), "passed": one.passed} for one in found.judged],
    }
