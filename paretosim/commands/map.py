"""`paretosim map`: which split is best at which rate, exactly, and over rate and delay, as a picture."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

import msgspec

from paretosim.commands.output import add_output_options, write
from paretosim.commands.split_options import add_calibration_options, add_split_options, setting_of
from paretosim.console import stdout_console
from paretosim.errors import BadInputError
from paretosim.link import shaped
from paretosim.rates.rate_map import Range, RateMap, rate_map
from paretosim.units import parse_duration_s, parse_rate_bps

DEFAULT_RATES = "100kbit..10gbit"
DEFAULT_DELAYS = "10us..1s"


def configure(parser: ArgumentParser) -> None:
    """Add the options of `paretosim map`."""
    network = add_split_options(parser)
    add_calibration_options(parser)
    network.add_argument(
        "--rates", default=DEFAULT_RATES, metavar="LOW..HIGH", help=f"both ways (default {DEFAULT_RATES})"
    )
    network.add_argument("--return-rate", metavar="RATE", help="of the reverse direction, where it stays the same")
    network.add_argument(
        "--delays", default=DEFAULT_DELAYS, metavar="LOW..HIGH", help=f"of the picture (default {DEFAULT_DELAYS})"
    )
    add_output_options(parser, lines="interval")


def run(arguments: Namespace) -> int:
    """Compute the map and print it."""
    rates = _range(arguments.rates, "--rates", parse_rate_bps)
    delays = _range(arguments.delays, "--delays", parse_duration_s)
    setting = setting_of(arguments)
    # The rate of any link of a map is one that something sets, and headers count as they do there.
    setting = msgspec.structs.replace(setting, link=shaped(setting.link, rate_bps=rates.high))
    back = None if arguments.return_rate is None else parse_rate_bps(arguments.return_rate, "--return-rate")
    found = rate_map(setting, rates, delays, back)
    return _written(arguments, found)


def _written(arguments: Namespace, found: RateMap) -> int:
    from paretosim.rates import map_figures, map_json, map_text

    return write(
        arguments,
        show=lambda: map_text.show(found, stdout_console()),
        as_json=lambda: map_json.as_json(found),
        as_csv=lambda: map_json.as_csv(found),
        plot=lambda path: map_figures.plot(found, path),
    )


def _range(text: str, option: str, parse: Callable[[str, str], float]) -> Range:
    low, dots, high = text.partition("..")
    if not dots:
        raise BadInputError(f"{option}: got {text!r}, expected two values such as LOW..HIGH, e.g. {_EXAMPLES[option]}")
    ends = parse(low, option), parse(high, option)
    if not 0 < ends[0] < ends[1]:
        raise BadInputError(f"{option}: got {text!r}, expected the lower value first, above zero, then a higher one")
    return Range(*ends)


_EXAMPLES = {"--rates": DEFAULT_RATES, "--delays": DEFAULT_DELAYS}
