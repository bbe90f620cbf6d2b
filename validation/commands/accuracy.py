"""`python -m validation accuracy RUN… --model M --link A --link B`: fit there, predict all else, and print how well."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from hwrun.records import read_run
from paretosim.calibration import BACKENDS
from paretosim.command_line import DONE
from paretosim.profiles import ProfileStore
from validation.accuracy import accuracy, as_markdown, write_into
from validation.commands.calibrate import calibrate, the_backend
from validation.fitting.fit import DEFAULT_CONFIDENCE


def configure(parser: ArgumentParser) -> None:
    """Add the options of `python -m validation accuracy`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder that hwrun sweep wrote")
    parser.add_argument("--model", required=True, metavar="NAME", help="the model whose cells are fitted")
    parser.add_argument("--link", action="append", required=True, metavar="NAME", help="over this link; repeatable")
    parser.add_argument("--backend", choices=BACKENDS, help="needed where runs hold several")
    parser.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    parser.add_argument("--seed", type=int, default=0, help="of the fit's starts (default 0)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--into", type=Path, metavar="FILE", help="also write the table between its marks in this file")
    output.add_argument("--json", action="store_true", help="print the table as one JSON object")


def run(arguments: Namespace) -> int:
    """Fit, judge and print."""
    store = ProfileStore(arguments.profiles)
    runs = [read_run(folder) for folder in arguments.runs]
    backend = the_backend(runs, arguments.backend)
    found = accuracy(
        runs, store, backend, model=arguments.model, links=arguments.link,
        fit=lambda own: calibrate(
            own, store, backend, name="fitted", confidence=DEFAULT_CONFIDENCE, seed=arguments.seed
        ),
    )  # fmt: skip
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
        return DONE
    text = as_markdown(found)
    print(text, end="")
    if arguments.into is not None:
        write_into(arguments.into, text)
    return DONE
