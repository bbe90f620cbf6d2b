"""`paretosim simulate`: one split, batch by batch."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from paretosim.commands.operation_options import add_operation_options, settle
from paretosim.commands.split_options import (
    add_calibration_options,
    add_delay_options,
    add_load_options,
    add_profile_options,
    setting_of,
)
from paretosim.console import stdout_console
from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.mode import ALL_MODE_NAMES, DEFAULT_BURST_BATCHES
from paretosim.setting_words import DEFAULT_LINK
from paretosim.simulation.link_trace import LinkTrace, read_link_trace
from paretosim.simulation.simulating import Conditions, Simulation, simulate

DEFAULT_BATCHES = 100


def configure(parser: ArgumentParser) -> None:
    """Add the options of `paretosim simulate`."""
    parser.add_argument("--model", required=True, metavar="NAME", help="see paretosim list")
    parser.add_argument("--split", required=True, type=int, metavar="S", help="blocks on the first device")
    parser.add_argument("--devices", default="rpi4b,rpi4b", metavar="ONE,TWO", help="first and second device")
    network = parser.add_argument_group("network")
    network.add_argument("--link", metavar="LINK", help=f"a preset or RATE,DELAY (default {DEFAULT_LINK})")
    add_delay_options(network, tcp_states=("warm", "cold", "idle"))
    network.add_argument("--bw", metavar="RATE", help="rate both ways as tc reads it, such as 5mbit")
    network.add_argument(
        "--trace",
        type=Path,
        metavar="CSV",
        help="time, rate and delay of the way forward, as they change; the way back and headers are the link's",
    )
    add_load_options(parser, splits=False, modes=ALL_MODE_NAMES)
    add_operation_options(parser)
    parser.add_argument("--jitter", type=float, default=0.0, metavar="CV", help="of stage times, such as 0.05")
    parser.set_defaults(mode=None)
    add_profile_options(parser)
    add_calibration_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="one JSON object")
    output.add_argument("--timeline", type=Path, metavar="FILE", help="also write a trace for ui.perfetto.dev")


def run(arguments: Namespace) -> int:
    """Simulate and print."""
    simulation = _simulated(arguments)
    if arguments.timeline is not None:
        _write_timeline(simulation, arguments.timeline)
    if arguments.json:
        from paretosim.simulation.as_json import as_json

        sys.stdout.write(as_json(simulation).decode())
    else:
        from paretosim.simulation.tables import show

        show(simulation, stdout_console())
    return 0


def _simulated(arguments: Namespace) -> Simulation:
    tcp_state, batches = arguments.tcp_state, arguments.batches
    if arguments.mode != "burst":
        arguments.batches = None  # every simulation is a finite run; that is not the mode's
    if arguments.trace is not None and arguments.bw is not None:
        raise BadInputError(
            "--bw: sets the rate forward, and so does --trace; expected one of them: --link (a preset or RATE,DELAY)"
            " says what a trace leaves open, the way back and headers"
        )
    settle(arguments)
    # The connection's memory exists in simulations only; a setting knows warm and cold.
    arguments.tcp_state = "warm" if tcp_state == "idle" else tcp_state
    setting = setting_of(arguments)
    if arguments.mode == "burst":
        batches = setting.mode.batches or DEFAULT_BURST_BATCHES
    trace = None if arguments.trace is None else _trace(arguments, setting.link)
    conditions = Conditions(
        batches=DEFAULT_BATCHES if batches is None else batches,
        jitter=arguments.jitter,
        trace=trace,
        tcp_state=tcp_state,
    )
    return simulate(setting, arguments.split, conditions)


def _trace(arguments: Namespace, link: Link) -> LinkTrace:
    given = [option for option in ("--delay", "--rtt") if getattr(arguments, option[2:]) is not None]
    return read_link_trace(arguments.trace, link, forward_given=" and ".join(given))


def _write_timeline(simulation: Simulation, path: Path) -> None:
    from paretosim.simulation.timeline import as_chrome_trace

    try:
        path.write_bytes(as_chrome_trace(simulation))
    except OSError as error:
        raise BadInputError(f"--timeline: {path} cannot be written: {error.strerror}; choose another place") from error
    print(f"timeline: {path}; open it in ui.perfetto.dev", file=sys.stderr)
