"""`paretosim front`: several models, devices and links side by side; the paper's figures 3–6 from one command each."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from paretosim.commands.operation_options import add_operation_options, add_paper_preset, settle
from paretosim.commands.options import timing_files
from paretosim.commands.output import add_output_options, write
from paretosim.commands.split_options import (
    SETTING_OPTIONS,
    add_calibration_options,
    add_delay_options,
    add_load_options,
    add_profile_options,
)
from paretosim.console import stdout_console
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
    add_output_options(parser, lines="split and panel")
    add_profile_options(parser)
    add_calibration_options(parser)


def run(arguments: Namespace) -> int:
    """Predict every panel and print them."""
    found = _side_by_side(arguments)
    from paretosim.side_by_side import as_json, figures, tables

    return write(
        arguments,
        show=lambda: tables.show(found, stdout_console(width_elsewhere=160)),
        as_json=lambda: as_json.as_json(found),
        as_csv=lambda: as_json.as_csv(found),
        plot=lambda path: figures.plot(found, path),
    )


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
