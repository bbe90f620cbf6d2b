"""What choices are compared by: latency, throughput, energy, memory and bytes on the wire, or any of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.errors import BadInputError
from paretosim.profiles import nearest
from paretosim.units import format_bytes, format_duration, format_number

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One choice in every objective; None where it was not asked for.

    `image_latency_s` is from when a batch's first image is there until its result is: with a camera, the batch has
    to fill before it is dispatched. `network_j_per_image` is what radios and NICs add of the energy, as far as known.
    """

    image_latency_s: float
    throughput_per_s: float
    energy_j_per_image: float | None = None
    network_j_per_image: float | None = None
    peak_memory_bytes: int | None = None
    wire_bytes_per_image: float | None = None


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """A field of `Figures`, whether more of it is better, and what its best is called."""

    name: str
    field: str
    best: str
    maximised: bool = False

    def of(self, figures: Figures) -> float:
        """The objective's value."""
        value = getattr(figures, self.field)
        assert value is not None  # whoever made the figures was told the objectives
        return float(value)

    def cost_of(self, figures: Figures) -> float:
        """The objective's value, negated where more of it is better."""
        return -self.of(figures) if self.maximised else self.of(figures)


OBJECTIVES = (
    Objective(name="latency", field="image_latency_s", best="lowest latency"),
    Objective(name="throughput", field="throughput_per_s", best="highest throughput", maximised=True),
    Objective(name="energy", field="energy_j_per_image", best="least energy"),
    Objective(name="memory", field="peak_memory_bytes", best="least memory"),
    Objective(name="bytes", field="wire_bytes_per_image", best="fewest bytes"),
)
DEFAULT_OBJECTIVES = ("latency", "throughput")


def objectives_named(names: Iterable[str]) -> tuple[Objective, ...]:
    """The objectives of these names, in this order.

    Raises
    ------
    BadInputError : none, one that is not known, or one twice.

    >>> [objective.name for objective in objectives_named(["energy", "latency"])]
    ['energy', 'latency']
    """
    known = {objective.name: objective for objective in OBJECTIVES}
    asked = list(names)
    for name in asked:
        if name not in known:
            raise BadInputError(
                f"objectives: got {name!r}, expected any of {', '.join(known)}{nearest(name, list(known))}"
            )
    if not asked or len(set(asked)) < len(asked):
        raise BadInputError(f"objectives: got {', '.join(asked) or 'none'}, expected one or more, each once")
    return tuple(known[name] for name in asked)


def costs_of(figures: Sequence[Figures], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """(choices, objectives), every column to be minimised: what is to be large is negated."""
    return np.array(
        [[objective.cost_of(one) for objective in objectives] for one in figures], dtype=np.float64
    ).reshape(len(figures), len(objectives))


def figure_text(objective: Objective, value: float, digits: int = 3) -> str:
    """A value of an objective for people, with its unit; sizes to the byte beyond three digits."""
    if objective.name == "latency":
        return format_duration(value, digits=digits, gap=" ")
    if objective.name == "throughput":
        return f"{format_number(value, digits)} images/s"
    if objective.name == "energy":
        return f"{format_number(value, digits)} J an image"
    size = format_bytes(value) if digits <= 3 else f"{format_number(value, 15)} B"
    return size + (" an image" if objective.name == "bytes" else "")


def contrast(objective: Objective, one: float, other: float) -> str:
    """Two values of an objective for people: with as many digits as tell them apart, or as equal.

    >>> contrast(OBJECTIVES[0], 1.5, 1.75), contrast(OBJECTIVES[0], 1.5601, 1.5602), contrast(OBJECTIVES[0], 1.5, 1.5)
    ('1.5 s against 1.75 s', '1.5601 s against 1.5602 s', '1.5 s for both')
    """
    if math.isclose(one, other, rel_tol=1e-9):
        return f"{figure_text(objective, one)} for both"
    texts = ([figure_text(objective, value, digits) for value in (one, other)] for digits in range(3, 12))
    return next(f"{first} against {second}" for first, second in texts if first != second)
