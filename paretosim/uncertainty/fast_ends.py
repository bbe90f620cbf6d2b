"""The fast ends of intervals: how fast a split may be, from what each of its stations says on its own.

Where a period is the longest of several uncertain times, it is seen too long, since an error of any of them can lift a
maximum and none can lower it, and it is drawn longer still. Of two equally slow stations, low percentiles of the drawn
maximum hold the truth far too seldom. But the truth is no shorter than any one station makes it, and what one station
alone makes of it has no maximum in it: its own percentiles are as good as its timing's error. So the fast end of an
interval is the slowest of the stations' own fast ends. Slow ends need none of this: they are safe as drawn
(docs/model.md, "Uncertainty").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paretosim.hop_terms import HopTerms
from paretosim.in_effect import control_s
from paretosim.pipeline import in_mode, significant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from paretosim.setting import Setting

    Array = NDArray[np.float64]


class Claims(NamedTuple):
    """Latencies and periods (seconds), (claims, …) each, of which the largest is the split's own."""

    latency_s: Array
    period_s: Array


def claims_of(world: Setting, stages_s: Array, transfers: HopTerms) -> Claims:
    """What each station alone, and a window, makes of latency and period, (claims, plans).

    Parameters
    ----------
    world : a setting whose objectives have a closed form.
    stages_s : (plans, 2) seconds, all terms included.
    transfers : what every hop takes, (plans, hops) each.
    """
    stations = np.concatenate([stages_s, transfers.occupied_s, transfers.receiving_s], axis=1).T
    unloaded = stations.sum(axis=0) + transfers.waits_s.sum(axis=1) + control_s(world)
    window = world.mode.window
    if window is not None:
        latency_s = np.concatenate([unloaded[np.newaxis], window * stations])
        return Claims(latency_s, latency_s / window)
    latency_s, period_s = in_mode(unloaded, stations, world.mode)
    return Claims(np.atleast_2d(latency_s), np.atleast_2d(period_s))


def fast_end(claims: Array, share: float) -> Array:
    """The slowest of the claims' quantiles for a `share` of samples, from (claims, samples, …)."""
    ends = np.quantile(claims, share, axis=1, method="inverted_cdf")
    return significant(np.asarray(ends.max(axis=0)))
