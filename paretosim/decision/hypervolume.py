"""How much of the space between the best and the worst a front covers, by moocore where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray


class Hypervolume(msgspec.Struct, frozen=True, kw_only=True):
    """The share of the box from `ideal` to `reference` that a front dominates, 0 … 1.

    `ideal` and `reference` are one cost for each objective: what is maximised stands negated.
    """

    share: float
    ideal: tuple[float, ...]
    reference: tuple[float, ...]


def hypervolume(costs: NDArray[np.float64]) -> Hypervolume | None:
    """The hypervolume of `costs`, all axes scaled to the box between their best and their worst.

    The reference point is the worst of each objective, so an end of the front covers nothing there by itself. An
    objective in which all choices are equal is left out of the box.

    Parameters
    ----------
    costs : (n, m) of all choices that count, every column minimised.

    Returns
    -------
    None where moocore is not installed, or there is nothing to trade: no costs, or fewer than two of them differ.
    """
    if len(costs) == 0:
        return None
    ideal, reference = costs.min(axis=0), costs.max(axis=0)
    varied = reference > ideal
    if varied.sum() < 2:
        return None
    try:
        import moocore  # type: ignore[import-untyped]  # it ships no types
    except ModuleNotFoundError:
        return None
    scaled = (costs - ideal)[:, varied] / (reference - ideal)[varied]
    share = float(moocore.hypervolume(scaled, ref=1.0))
    return Hypervolume(share=share, ideal=tuple(ideal.tolist()), reference=tuple(reference.tolist()))
