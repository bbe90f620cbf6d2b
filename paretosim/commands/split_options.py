"""The options that say what a model is split over, how it is fed, and what is known of its devices."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from pathlib import Path

from paretosim.commands.options import DEFAULT_LINK, check_load, link_of, own_timings
from paretosim.errors import BadInputError
from paretosim.mode import DEFAULT_BURST_BATCHES, DEFAULT_WINDOW, MODE_NAMES, Mode
from paretosim.prediction import Setting
from paretosim.profiles import ProfileStore
from paretosim.units import parse_duration_s


def add_split_options(parser: ArgumentParser) -> _ArgumentGroup:
    """Add all options that a setting is made of but the rate; the network's group is returned for that."""
    parser.add_argument("--model", required=True, metavar="NAME", help="see paretosim list")
    parser.add_argument("--devices", default="rpi4b,rpi4b", metavar="ONE,TWO", help="first and second device")
    network = parser.add_argument_group("network")
    network.add_argument("--link", metavar="LINK", help=f"a preset or RATE,DELAY (default {DEFAULT_LINK})")
    network.add_argument("--delay", metavar="TIME", help="one-way delay forward, as tc adds it, such as 200ms")
    network.add_argument("--rtt", metavar="TIME", help="round trip, spread over both directions")
    network.add_argument(
        "--tcp-state", choices=("warm", "cold"), default="warm", help="cold: every batch begins in slow start"
    )
    load = parser.add_argument_group("load")
    load.add_argument("--batch", type=int, default=8, metavar="B", help="images a batch (default 8)")
    load.add_argument("--mode", choices=MODE_NAMES, default="paced", help="how batches are fed (default paced)")
    load.add_argument("--window", type=int, metavar="W", help=f"in mode closed (default {DEFAULT_WINDOW})")
    load.add_argument("--burst", type=int, metavar="N", help=f"batches in burst (default {DEFAULT_BURST_BATCHES})")
    load.add_argument("--splits", choices=("all", "interior"), default="all", help="0 … N, or 1 … N−1")
    load.add_argument("--source", choices=("stage1", "sink"), default="stage1", help="where the inputs are")
    load.add_argument("--sink", choices=("last", "first"), default="last", help="where results are wanted")
    load.add_argument("--control-delay", default="0s", metavar="TIME", help="of a dispatch to stage 1 (default 0)")
    profiles = parser.add_argument_group("profiles")
    profiles.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    profiles.add_argument(
        "--timing", action="append", default=[], metavar="DEVICE=CSV", help="your own block,seconds of a device"
    )
    return network


def setting_of(arguments: Namespace) -> Setting:
    """The setting that the options describe, without wishes for a latency or a throughput."""
    store = ProfileStore(arguments.profiles)
    model = store.model(arguments.model)
    names = tuple(name.strip() for name in arguments.devices.split(","))
    if len(names) != 2:
        raise BadInputError(f"--devices: got {arguments.devices!r}, expected two names such as rpi4b,rtx4090")
    own = own_timings(arguments.timing, store, arguments.model)
    devices = [store.device(name) for name in names]
    timings = [own.get(name) or store.timing(name, model.name) for name in names]
    if unused := [name for name in own if name not in names]:
        raise BadInputError(
            f"--timing: got a timing of {', '.join(unused)}, which is not in --devices {arguments.devices};"
            f" expected one of {' or '.join(dict.fromkeys(names))}"
        )
    check_load(arguments)
    return Setting(
        model=model,
        devices=(devices[0], devices[1]),
        timings=(timings[0], timings[1]),
        link=link_of(arguments, arguments.link, store),
        batch=arguments.batch,
        mode=Mode.named(arguments.mode, window=arguments.window, batches=arguments.burst),
        splits=arguments.splits,
        source=arguments.source,
        sink=arguments.sink,
        tcp_state=arguments.tcp_state,
        control_delay_s=parse_duration_s(arguments.control_delay, "--control-delay"),
    )
