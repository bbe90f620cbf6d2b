"""Options that several subcommands read in the same way."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from paretosim import setting_words
from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.profiles import ProfileStore, read_timing_csv
from paretosim.setting_words import DEFAULT_LINK, as_option
from paretosim.timing import Timing

__all__ = ["DEFAULT_LINK", "check_load", "link_of", "own_timings", "timing_files"]


def check_load(arguments: Namespace) -> None:
    """Refuse a batch, window, burst, rate of images or frames that means nothing, by its option's name."""
    setting_words.check_load(
        arguments.mode,
        arguments.batch,
        window=arguments.window,
        burst=arguments.burst,
        wishes={name: getattr(arguments, name, None) for name in ("min_throughput", "fps")},  # not every command's
        spelling=as_option,
    )


def link_of(arguments: Namespace, link: str | None, store: ProfileStore) -> Link:
    """The link that `link` (a preset's name or RATE,DELAY), `--bw`, `--delay` and `--rtt` describe together."""
    bw = getattr(arguments, "bw", None)
    return setting_words.link_in_words(
        link, bw=bw, delay=arguments.delay, rtt=arguments.rtt, store=store, spelling=as_option
    )


def timing_files(options: list[str]) -> dict[str, Path]:
    """Files of a user's own timings by device, from options such as `rpi4b=mine.csv`."""
    files: dict[str, Path] = {}
    for option in options:
        device, equals, path = option.partition("=")
        if not equals or not device or not path:
            raise BadInputError(f"--timing: got {option!r}, expected DEVICE=FILE.csv such as rpi4b=mine.csv")
        files[device] = Path(path)
    return files


def own_timings(options: list[str], store: ProfileStore, model: str) -> dict[str, Timing]:
    """A user's own timings by device, read."""
    return {device: read_timing_csv(path, device, store.model(model)) for device, path in timing_files(options).items()}
