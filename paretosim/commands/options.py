"""Options that several subcommands read in the same way."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from paretosim.errors import BadInputError
from paretosim.link import Link, parse_link, shaped
from paretosim.profiles import ProfileStore, read_timing_csv
from paretosim.timing import Timing
from paretosim.units import parse_duration_s, parse_rate_bps

DEFAULT_LINK = "ethernet-1g"


def check_load(arguments: Namespace) -> None:
    """Refuse a batch, window, burst, rate of images or frames that means nothing, by its option's name."""
    for option, mode in (("window", "closed"), ("burst", "burst")):
        if getattr(arguments, option) is not None and arguments.mode != mode:
            raise BadInputError(f"--{option}: has no meaning in mode {arguments.mode}, expected --mode {mode}")
    for option in ("min_throughput", "fps"):
        value = getattr(arguments, option, None)  # not every command has wishes
        if value is not None and not 0 < value < float("inf"):
            raise BadInputError(f"--{option.replace('_', '-')}: got {value}, expected a number above zero")
    if arguments.batch < 1:
        raise BadInputError(f"--batch: got {arguments.batch}, expected 1 or more")


def link_of(arguments: Namespace, link: str | None, store: ProfileStore) -> Link:
    """The link that `link` (a preset's name or RATE,DELAY), `--bw`, `--delay` and `--rtt` describe together."""
    default = store.link(DEFAULT_LINK)
    base = default
    if link is not None:
        base = parse_link(link, default) if "," in link else store.link(link)
    return shaped(
        base,
        rate_bps=None if getattr(arguments, "bw", None) is None else parse_rate_bps(arguments.bw, "--bw"),
        one_way_delay_s=None if arguments.delay is None else parse_duration_s(arguments.delay, "--delay"),
        rtt_s=None if arguments.rtt is None else parse_duration_s(arguments.rtt, "--rtt"),
    )


def own_timings(options: list[str], store: ProfileStore, model: str) -> dict[str, Timing]:
    """A user's own timings by device, from options such as `rpi4b=mine.csv`."""
    timings: dict[str, Timing] = {}
    for option in options:
        device, equals, path = option.partition("=")
        if not equals or not device or not path:
            raise BadInputError(f"--timing: got {option!r}, expected DEVICE=FILE.csv such as rpi4b=mine.csv")
        timings[device] = read_timing_csv(Path(path), device, store.model(model))
    return timings
