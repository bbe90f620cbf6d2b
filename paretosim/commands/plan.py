"""`paretosim plan`: the exact front of a model over several devices, in their order or in any."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from paretosim.calibration import check_terms
from paretosim.commands.options import DEFAULT_LINK, check_load, link_of, own_timings
from paretosim.commands.output import add_output_options, write
from paretosim.commands.split_options import add_calibration_options
from paretosim.console import stdout_console
from paretosim.errors import BadInputError
from paretosim.link import Link, parse_link
from paretosim.mode import DEFAULT_BURST_BATCHES, DEFAULT_WINDOW, MODE_NAMES, Mode
from paretosim.objectives import DEFAULT_OBJECTIVES
from paretosim.placement.hop_links import HopLinks, positions_of
from paretosim.placement.limits import parse_forbid, parse_pin
from paretosim.placement.placing import place
from paretosim.placement.setting import Ends, PlacementSetting
from paretosim.profiles import ProfileStore
from paretosim.units import parse_duration_s


def configure(parser: ArgumentParser) -> None:
    """Add the options of `paretosim plan`."""
    parser.add_argument("--model", required=True, metavar="NAME", help="see paretosim list")
    parser.add_argument("--devices", default="rpi4b,rpi4b", metavar="ONE,TWO,…", help="in their order, a name a device")
    chains = parser.add_argument_group("chains of devices")
    chains.add_argument("--any-order", action="store_true", help="over every order of every subset of the devices")
    chains.add_argument(
        "--ends",
        choices=("fixed", "free"),
        help="inputs at the first and results at the last device listed (fixed, the default in the given order), or at"
        " whatever devices a chain begins and ends with (free, the default with --any-order)",
    )
    chains.add_argument("--max-devices", type=int, metavar="N", help="at most so many take part (default: all)")
    chains.add_argument("--pin", action="append", default=[], metavar="BLOCK:DEVICE", help="the block runs there")
    chains.add_argument(
        "--forbid", action="append", default=[], metavar="DEVICE[:BLOCK,…]", help="none of these blocks runs there"
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="[FROM>TO=]LINK",
        help=f"a preset or RATE,DELAY for every hop (default {DEFAULT_LINK}), or for the one between two devices",
    )
    network.add_argument("--bw", metavar="RATE", help="rate both ways as tc reads it, such as 5mbit, of every hop")
    network.add_argument("--delay", metavar="TIME", help="one-way delay forward, as tc adds it, of every hop")
    network.add_argument("--rtt", metavar="TIME", help="round trip of every hop, spread over both directions")
    network.add_argument(
        "--tcp-state", choices=("warm", "cold"), default="warm", help="cold: every batch begins in slow start"
    )
    load = parser.add_argument_group("load")
    load.add_argument("--batch", type=int, default=8, metavar="B", help="images a batch (default 8)")
    load.add_argument("--mode", choices=MODE_NAMES, default="paced", help="how batches are fed (default paced)")
    load.add_argument("--window", type=int, metavar="W", help=f"in mode closed (default {DEFAULT_WINDOW})")
    load.add_argument("--burst", type=int, metavar="N", help=f"batches in burst (default {DEFAULT_BURST_BATCHES})")
    load.add_argument("--source", choices=("stage1", "sink"), default="stage1", help="where the inputs are")
    load.add_argument("--sink", choices=("last", "first"), default="last", help="where results are wanted")
    load.add_argument("--control-delay", default="0s", metavar="TIME", help="of a dispatch to stage 1 (default 0)")
    load.add_argument(
        "--extrapolate", action="store_true", help="use timings of several batch sizes beyond those, marked as such"
    )
    wanted = parser.add_argument_group("what is wanted")
    wanted.add_argument("--max-latency", metavar="TIME", help="recommend only plans at most this slow")
    wanted.add_argument("--min-throughput", type=float, metavar="R", help="images per second at least")
    wanted.add_argument("--fps", type=float, metavar="F", help="a camera's frames per second, to be kept up with")
    wanted.add_argument(
        "--objectives",
        default=",".join(DEFAULT_OBJECTIVES),
        metavar="A,B,…",
        help="front in any of latency, throughput, energy, memory, bytes (default latency,throughput); other than in"
        " these two, every placement is gone through, up to a million",
    )
    profiles = parser.add_argument_group("profiles")
    profiles.add_argument("--profiles", action="append", default=[], type=Path, metavar="DIR", help="searched first")
    profiles.add_argument(
        "--timing", action="append", default=[], metavar="DEVICE=CSV", help="your own block,seconds of a device"
    )
    add_calibration_options(parser)
    add_output_options(parser, lines="plan on the front")


def run(arguments: Namespace) -> int:
    """Search and print."""
    placement = place(setting_of(arguments), [name.strip() for name in arguments.objectives.split(",")])
    from paretosim.placement import as_json, figures, tables

    return write(
        arguments,
        show=lambda: tables.show_placement(placement, stdout_console(width_elsewhere=240)),
        as_json=lambda: as_json.placement_as_json(placement),
        as_csv=lambda: as_json.placement_as_csv(placement),
        plot=lambda path: figures.plot(placement, path),
    )


def setting_of(arguments: Namespace) -> PlacementSetting:
    """The setting that the options describe."""
    store = ProfileStore(arguments.profiles)
    model = store.model(arguments.model)
    names = [name.strip() for name in arguments.devices.split(",")]
    if not all(names):
        raise BadInputError(f"--devices: got {arguments.devices!r}, expected names such as rpi4b,rpi4b,rtx4090")
    own = own_timings(arguments.timing, store, model.name)
    devices = {name: store.device(name) for name in dict.fromkeys(names)}
    timings = {name: own.get(name) or store.timing(name, model.name) for name in devices}
    if unused := [name for name in own if name not in devices]:
        raise BadInputError(
            f"--timing: got a timing of {', '.join(unused)}, which is not in --devices {arguments.devices};"
            f" expected one of {' or '.join(devices)}"
        )
    check_load(arguments)
    check_terms(arguments.without, "--without")
    if arguments.extrapolate:
        timings = {name: timing.extrapolated_to(arguments.batch) for name, timing in timings.items()}
    ends: Ends = arguments.ends or ("free" if arguments.any_order else "fixed")
    least = 2 if ends == "fixed" and arguments.sink == "last" and len(names) > 1 else 1
    if arguments.max_devices is not None and arguments.max_devices < least:
        why = f": chains go from {names[0]} to {names[-1]} (unless --ends free)" if least == 2 else ""
        raise BadInputError(f"--max-devices: got {arguments.max_devices}, expected {least} or more{why}")
    return PlacementSetting(
        model=model,
        devices=tuple(devices[name] for name in names),
        timings=tuple(timings[name] for name in names),
        links=_links_of(arguments, names, store),
        batch=arguments.batch,
        mode=Mode.named(arguments.mode, window=arguments.window, batches=arguments.burst),
        order="any" if arguments.any_order else "given",
        ends=ends,
        max_devices=arguments.max_devices,
        pins=tuple(parse_pin(text, model, names) for text in arguments.pin),
        forbids=tuple(parse_forbid(text, model, names) for text in arguments.forbid),
        source=arguments.source,
        sink=arguments.sink,
        tcp_state=arguments.tcp_state,
        control_delay_s=parse_duration_s(arguments.control_delay, "--control-delay"),
        max_latency_s=None
        if arguments.max_latency is None
        else parse_duration_s(arguments.max_latency, "--max-latency"),
        min_throughput_per_s=arguments.min_throughput,
        frame_rate_per_s=arguments.fps,
        backend=arguments.backend,
        calibration=None if arguments.calibration is None else store.calibration(arguments.calibration),
        without=tuple(dict.fromkeys(arguments.without)),
    )


def _links_of(arguments: Namespace, names: list[str], store: ProfileStore) -> HopLinks:
    """The link of every hop, and of those between two devices; later options replace earlier ones."""
    every = [text for text in arguments.link if "=" not in text and ">" not in text]
    if len(every) > 1:
        raise BadInputError(
            f"--link: got {' and '.join(every)}, expected one link for every hop, and others as FROM>TO=LINK"
        )
    own: dict[tuple[int, int], Link] = {}
    for text in arguments.link:
        if text in every:
            continue
        hop, equals, name = text.partition("=")
        start, arrow, end = hop.partition(">")
        if not (equals and arrow and start and end and name):
            raise BadInputError(
                f"--link: got {text!r}, expected a link, or FROM>TO=LINK such as"
                f" '{names[0]}>{names[-1]}=5mbit,200ms' (devices by name, or by number from 1)"
            )
        link = parse_link(name, store.link(DEFAULT_LINK)) if "," in name else store.link(name)
        pairs = [
            (one, two)
            for one in positions_of(start.strip(), names, "--link")
            for two in positions_of(end.strip(), names, "--link")
            if one != two
        ]
        if not pairs:
            raise BadInputError(f"--link: got {text!r}, a hop from a device to itself; expected two devices")
        own |= dict.fromkeys(pairs, link)
    return HopLinks(every=link_of(arguments, every[0] if every else None, store), own=own)
