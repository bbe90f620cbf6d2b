"""`--uncertainty` and what goes with it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from paretosim.errors import BadInputError

if TYPE_CHECKING:
    from paretosim.prediction import Prediction
    from paretosim.uncertainty.sampling import Doubts, Uncertainty

_ONLY_WITH = ("samples", "rate_spread", "delay_spread", "assume_error")


def add_uncertainty_options(parser: ArgumentParser) -> None:
    """Add the options; all are None, empty or false where they were not given."""
    group = parser.add_argument_group("uncertainty")
    group.add_argument(
        "--uncertainty", action="store_true",
        help="also intervals, and how probably each split is on the front, from the errors of the timings",
    )  # fmt: skip
    group.add_argument("--samples", type=int, metavar="N", help="how many are drawn, with --seed (default 1000)")
    group.add_argument(
        "--rate-spread", type=float, metavar="F", help="of the link's rate: standard deviation of its log (default 0)"
    )
    group.add_argument("--delay-spread", type=float, metavar="F", help="of its delays, likewise (default 0)")
    group.add_argument(
        "--assume-error", action="append", default=[], metavar="DEVICE=F",
        help="the relative error of a timing whose own is not known, such as rpi4b=0.1",
    )  # fmt: skip


def check_uncertainty(arguments: Namespace, *, elsewhere: str | None = None) -> None:
    """Refuse what belongs to `--uncertainty` without it, and `--uncertainty` itself beside `elsewhere`."""
    if arguments.uncertainty and elsewhere is not None:
        raise BadInputError(f"--uncertainty: has no meaning with {elsewhere}; leave one of them out")
    given = [name for name in _ONLY_WITH if getattr(arguments, name) not in (None, [])]
    if given and not arguments.uncertainty:
        option = f"--{given[0].replace('_', '-')}"
        raise BadInputError(f"{option}: has no meaning without --uncertainty; add it, or leave {option} out")


def uncertainty_asked(arguments: Namespace, prediction: Prediction) -> Uncertainty | None:
    """What was asked about the prediction; None without `--uncertainty`."""
    if not arguments.uncertainty:
        return None
    from paretosim.uncertainty.sampling import uncertainty_of

    return uncertainty_of(prediction, _doubts(arguments))


def _doubts(arguments: Namespace) -> Doubts:
    from paretosim.uncertainty.sampling import DEFAULT_SAMPLES, Doubts

    return Doubts(
        samples=DEFAULT_SAMPLES if arguments.samples is None else arguments.samples,
        seed=arguments.seed,
        rate_spread=arguments.rate_spread or 0.0,
        delay_spread=arguments.delay_spread or 0.0,
        assumed_errors=dict(map(_assumed, arguments.assume_error)),
    )


def _assumed(option: str) -> tuple[str, float]:
    device, _, text = option.partition("=")
    try:
        return device, float(text)
    except ValueError:
        raise BadInputError(f"--assume-error: got {option!r}, expected DEVICE=F such as rpi4b=0.1") from None
