"""The options that say what a model is split over, how it is fed, and what is known of its devices."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, _ArgumentGroup
from collections.abc import Sequence
from pathlib import Path

from paretosim.calibration import BACKENDS
from paretosim.commands.options import timing_files
from paretosim.errors import BadInputError
from paretosim.mode import DEFAULT_BURST_BATCHES, DEFAULT_WINDOW, MODE_NAMES, ModeName
from paretosim.setting import Setting
from paretosim.setting_words import DEFAULT_LINK, as_option, split_setting

# Options whose values are arguments of `split_setting` of the same name.
SETTING_OPTIONS = (
    "link", "bw", "delay", "rtt", "batch", "mode", "window", "burst", "splits", "source", "sink", "tcp_state",
    "control_delay", "max_latency", "min_throughput", "fps", "extrapolate", "rate", "arrivals", "operation",
    "backend", "calibration", "without",
)  # fmt: skip


def add_split_options(
    parser: ArgumentParser, *, several: bool = False, modes: Sequence[ModeName] = MODE_NAMES
) -> _ArgumentGroup:
    """Add all options that a setting is made of but the rate; the network's group is returned for that.

    With `several`, batch and window also read lists, which become tuples of numbers.
    """
    parser.add_argument("--model", required=True, metavar="NAME", help="see paretosim list")
    parser.add_argument("--devices", default="rpi4b,rpi4b", metavar="ONE,TWO", help="first and second device")
    network = parser.add_argument_group("network")
    network.add_argument("--link", metavar="LINK", help=f"a preset or RATE,DELAY (default {DEFAULT_LINK})")
    add_delay_options(network)
    add_load_options(parser, several=several, modes=modes)
    add_profile_options(parser)
    return network


def add_delay_options(network: _ArgumentGroup, *, tcp_states: Sequence[str] = ("warm", "cold")) -> None:
    """Add what shapes a link besides its rate, and the state of its connection."""
    network.add_argument("--delay", metavar="TIME", help="one-way delay forward, as tc adds it, such as 200ms")
    network.add_argument("--rtt", metavar="TIME", help="round trip, spread over both directions")
    network.add_argument(
        "--tcp-state", choices=tcp_states, default="warm", help="cold: every batch begins in slow start"
    )


def add_load_options(
    parser: ArgumentParser,
    *,
    several: bool = False,
    splits: bool = True,
    modes: Sequence[ModeName] = MODE_NAMES,
) -> None:
    """Add what is sent through the pipeline, and how."""
    load = parser.add_argument_group("load")
    number = whole_numbers if several else int
    lists = ", or a list to choose from, such as 1,2,4" if several else ""
    load.add_argument("--batch", type=number, default=8, metavar="B", help=f"images a batch (default 8){lists}")
    load.add_argument("--mode", choices=modes, default="paced", help="how batches are fed (default paced)")
    load.add_argument("--window", type=number, metavar="W", help=f"in mode closed (default {DEFAULT_WINDOW}){lists}")
    load.add_argument("--burst", type=int, metavar="N", help=f"batches in burst (default {DEFAULT_BURST_BATCHES})")
    if splits:
        load.add_argument("--splits", choices=("all", "interior"), default="all", help="0 … N, or 1 … N−1")
    load.add_argument("--source", choices=("stage1", "sink"), default="stage1", help="where the inputs are")
    load.add_argument("--sink", choices=("last", "first"), default="last", help="where results are wanted")
    load.add_argument("--control-delay", default="0s", metavar="TIME", help="of a dispatch to stage 1 (default 0)")
    load.add_argument(
        "--extrapolate", action="store_true", help="use timings of several batch sizes beyond those, marked as such"
    )


def whole_numbers(text: str) -> int | tuple[int, ...]:
    """One whole number, or several with commas between them as a tuple.

    >>> whole_numbers("8"), whole_numbers("1,2,4")
    (8, (1, 2, 4))
    """
    try:
        numbers = tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"got {text!r}, expected a whole number, or a list of them such as 1,2,4") from error
    return numbers[0] if len(numbers) == 1 else numbers


def add_profile_options(parser: ArgumentParser) -> None:
    """Add where profiles are, and a user's own timings."""
    profiles = parser.add_argument_group("profiles")
    profiles.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    profiles.add_argument(
        "--timing", action="append", default=[], metavar="DEVICE=CSV", help="your own block,seconds of a device"
    )


def add_calibration_options(parser: ArgumentParser) -> None:
    """Add what moves activations, what is known of its costs, and terms to leave out."""
    group = parser.add_argument_group("terms of the model")
    group.add_argument("--backend", choices=BACKENDS, default="tcp", help="what moves activations (default tcp)")
    group.add_argument("--calibration", metavar="NAME|FILE.json", help="fitted costs of devices, messages and backend")
    group.add_argument(
        "--without", action="append", default=[], metavar="TERM", help="switch a term off, such as slow-start; repeat"
    )


def setting_of(arguments: Namespace) -> Setting:
    """The setting that the options describe; options that a command does not have are left at their defaults."""
    names = [name.strip() for name in arguments.devices.split(",")]
    if len(names) != 2:
        raise BadInputError(f"--devices: got {arguments.devices!r}, expected two names such as rpi4b,rtx4090")
    given = vars(arguments)
    return split_setting(
        arguments.model,
        names,
        timings=timing_files(arguments.timing),
        profiles=arguments.profiles,
        spelling=as_option,
        **{name: given[name] for name in SETTING_OPTIONS if name in given},
    )
