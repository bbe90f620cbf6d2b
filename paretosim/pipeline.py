"""A pipeline as a line of stations: latency and period in every mode (docs/model.md, "Pipeline").

Stages and links are stations that hold one batch at a time; delays come after a link and hold nothing. In steady
state everything follows from two numbers: t*, the largest service time, and L₀, the sum of all service times and
delays. The closed forms below are exact for deterministic service times and buffers that never block.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.errors import BadInputError
from paretosim.mode import MODE_NAMES, Mode

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Products and sums of the same quantities in another order differ in their last bits. Objectives are rounded to
# this many significant digits, so that such a difference neither breaks a tie nor dominates.
SIGNIFICANT_DIGITS = 12


class Objectives(msgspec.Struct, frozen=True):
    """Latency of a batch and interval between batches, seconds, one of each per plan."""

    latency_s: Array
    period_s: Array
    latency_from_start_s: Array | None = None


class Starts(msgspec.Struct, frozen=True):
    """When stage 1 starts in an empty pipeline (seconds after the dispatch), and every how many seconds after that.

    The paper's clock starts with stage 1, so it leaves out how a batch got there and how long it waited for it.
    """

    first_s: Array
    interval_s: Array


def objectives(services_s: Array, delays_s: Array, mode: Mode, starts: Starts) -> Objectives:
    """Latency and period of each plan.

    Parameters
    ----------
    services_s : (plans, stations) service times in chain order.
    delays_s : (plans, …) delays that a batch waits through.
    starts : of stage 1, arrays of shape (plans,); needed for the paper's clock, in `burst` only.

    Returns
    -------
    Objectives : arrays of shape (plans,). `period_s` is the mean interval of completions; in `burst`, the
        makespan per batch. `latency_from_start_s` exists in `burst` only.

    Source: docs/model.md, "Modes".
    """
    slowest = services_s.max(axis=1)
    unloaded = sums(np.hstack([services_s, delays_s]))
    latency, period = in_mode(unloaded, slowest, mode)
    from_start = None
    if mode.batches is not None:
        from_start = significant(latency - starts.first_s - (mode.batches - 1) / 2 * starts.interval_s)
    return Objectives(significant(latency), significant(period), from_start)


def in_mode(unloaded: Array, slowest: Array, mode: Mode) -> tuple[Array, Array]:
    """Latency and period from L₀ and t*, arrays of any shape.

    But in `closed`, both are sums of multiples of L₀ and t*, so this also turns coefficients into coefficients.
    """
    if mode.name == "single":
        return unloaded, unloaded
    if mode.name == "paced":
        return unloaded, slowest
    if mode.name == "closed":
        assert mode.window is not None  # Mode has checked it
        return np.maximum(unloaded, mode.window * slowest), np.maximum(slowest, unloaded / mode.window)
    if mode.batches is None:
        raise BadInputError(f"mode {mode}: has no closed form; expected one of {', '.join(MODE_NAMES)}")
    waiting = mode.batches - 1
    return unloaded + waiting / 2 * slowest, (unloaded + waiting * slowest) / mode.batches


def sums(terms_s: Array) -> Array:
    """Sum of each row, rounded once: the same for the same terms in another order or grouping."""
    try:
        return np.array([math.fsum(row) for row in terms_s.tolist()])
    except OverflowError:
        return np.asarray(terms_s.sum(axis=1))  # infinite, which the caller refuses


def significant(values: Array, digits: int = SIGNIFICANT_DIGITS) -> Array:
    """`values` to that many significant digits; monotone, and the identity on zeros.

    >>> significant(np.array([1 / 3, 0.0]), 3).tolist()
    [0.333, 0.0]
    """
    flat = [float(f"{value:.{digits - 1}e}") for value in values.ravel().tolist()]
    return np.array(flat, dtype=np.float64).reshape(values.shape)
