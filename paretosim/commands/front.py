"""`paretosim front`: several models, devices and links side by side; the paper's figures 3–6 from one command each."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from paretosim.commands.operation_options import add_operation_options, add_paper_preset, settle
from paretosim.commands.options import timing_files
from paretosim.commands.split_options import (
    SETTING_OPTIONS,
    add_calibration_options,
    add_delay_options,
    add_load_options,
    add_profile_options,
)
from paretosim.errors import BadInputError
from paretosim.mode import ALL_MODE_NAMES
from paretosim.setting_words import DEFAULT_DEVICES, DEFAULT_LINK, as_option
from paretosim.side_by_side.panels import PAPER_FIGURES, SideBySide, paper_figure, predict_side_by_side


def configure(parser: ArgumentParser) -> None:
    """Add the options of `paretosim front`."""
    shown = ", ".join(f"{number}: {figure.title}" for number, figure in PAPER_FIGURES.items())
    parser.add_argument("--figure", type=int, metavar="N", help=f"the paper's figure, predicted ({shown})")
    parser.add_argument("--models", metavar="A,B|all", help="a panel each (default all that are timed)")
    parser.add_argument(
        "--devices",
        action="append",
        metavar="ONE,TWO",
        help=f"first and second device, may be repeated (default {','.join(DEFAULT_DEVICES)})",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--link",
        action="append",
        metavar="LINK",
        help=f"a preset or RATE,DELAY, may be repeated (default {DEFAULT_LINK})",
    )
    network.add_argument("--bw", metavar="RATE", help="rate both ways as tc reads it, such as 5mbit")
    add_delay_options(network)
    add_load_options(parser, modes=ALL_MODE_NAMES)
    add_operation_options(parser)
    add_paper_preset(parser)
    output = parser.add_argument_group("output")
    form = output.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object, a panel each")
    form.add_argument("--csv", action="store_true", help="one line per split and panel")
    output.add_argument("--plot", type=Path, metavar="FILE", help="also write the panels as a figure: .svg, .png, .pdf")
    add_profile_options(parser)
    add_calibration_options(parser)


def run(arguments: Namespace) -> int:
    """Predict every panel and print them."""
    found = _side_by_side(arguments)
    if arguments.plot is not None:
        from paretosim.side_by_side.figures import plot

        plot(found, arguments.plot)
    if arguments.json:
        from paretosim.side_by_side.as_json import as_json

        sys.stdout.write(as_json(found).decode())
    elif arguments.csv:
        from paretosim.side_by_side.as_json import as_csv

        sys.stdout.write(as_csv(found))
    else:
        _show(found)
    if arguments.plot is not None:
        print(f"figure: {arguments.plot}", file=sys.stderr)
    return 0


def _side_by_side(arguments: Namespace) -> SideBySide:
    if arguments.figure is not None and arguments.splits is None:
        arguments.splits = "interior"  # the paper's choice
    settle(arguments)
    given = vars(arguments)
    words = {name: given[name] for name in SETTING_OPTIONS if name in given and name != "link"}
    words |= {"timings": timing_files(arguments.timing), "profiles": arguments.profiles, "spelling": as_option}
    models = "all" if arguments.models in (None, "all") else _listed(arguments.models)
    if arguments.figure is not None:
        for name in ("devices", "link", "bw", "delay", "rtt"):
            if given[name] is not None:
                raise BadInputError(
                    f"--{name}: the devices and the link are figure {arguments.figure}'s own;"
                    " leave it out, or use --models instead of --figure"
                )
        return paper_figure(arguments.figure, models, **words)
    pairs = [_listed(devices) for devices in arguments.devices or [",".join(DEFAULT_DEVICES)]]
    return predict_side_by_side(models, pairs, arguments.link or (None,), **words)


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _show(found: SideBySide) -> None:
    from rich.console import Console

    from paretosim.side_by_side.tables import show

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width: let no column be cut
    show(found, console)
