"""Latency, period and front of every split on as many links as fit in memory.

A front needs every split compared with every other, and a million links of forty splits are too many for that. But
most comparisons are settled before any link is known, as some splits are no worse than others on any link
(`contenders`). Only those that no other one settles, the contenders, are compared in pairs; each of the rest is
compared with one contender that is no worse, and is on the front where it is exactly as good and that one is. None of
this is taken on trust: where rounding has made it better than its contender, all splits are compared. So the fronts are
exactly those of `pareto.is_nondominated`.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from paretosim.errors import BadInputError
from paretosim.pareto import are_nondominated
from paretosim.pipeline import in_mode
from paretosim.rates.contenders import contenders
from paretosim.rates.link_response import LinkResponse

Array = NDArray[np.float64]

# Links of a chunk: a dozen rows of that many numbers, which are at work at a time, fit in a core's own cache.
CHUNK_LINKS = 16384


class Sweep(msgspec.Struct, frozen=True):
    """Objectives and fronts, (links, splits) each, splits in the order of `LinkResponse.splits`.

    The arrays are stored split by split: `latency_s[:, k]` is contiguous.
    """

    latency_s: Array
    period_s: Array
    on_front: NDArray[np.bool_]


def sweep(
    response: LinkResponse,
    rate_bps: ArrayLike,
    one_way_delay_s: ArrayLike,
    return_delay_s: ArrayLike = 0.0,
    *,
    chunk_links: int = CHUNK_LINKS,
    out: Sweep | None = None,
    ruled_by: NDArray[np.intp] | None = None,
) -> Sweep:
    """Objectives and fronts of every split on every link.

    Nothing is rounded, as `predict` does to 12 digits, so within 1e-12 of a rate at which two splits are
    equally good, `predict` may keep both.

    Parameters
    ----------
    rate_bps, one_way_delay_s, return_delay_s : broadcast to (links,).
    chunk_links : how many links are worked on at once; beside the results, a few arrays of (splits, chunk_links)
        are held.
    out : results of an earlier sweep of as many links and splits, to be overwritten instead of allocated: touching
        new memory for a million links takes about as long as working them out.
    ruled_by : `contenders` of the response, where they are known already.

    Raises
    ------
    BadInputError : a rate that is not above zero, a negative delay, one that is not finite, or `out` of another shape.
    """
    links = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (rate_bps, one_way_delay_s, return_delay_s)))
    if links[0].ndim != 1:
        raise BadInputError(f"links: got shape {links[0].shape}, expected one dimension")
    if not (
        all(np.isfinite(values).all() for values in links)
        and (links[0] > 0).all()
        and (links[1] >= 0).all()
        and (links[2] >= 0).all()
    ):
        raise BadInputError("links: expected finite rates above zero and finite delays of 0 or more")
    shape = (len(response.splits), len(links[0]))
    if out is None:
        out = Sweep(np.empty(shape).T, np.empty(shape).T, np.empty(shape, dtype=np.bool_).T)
    latency_s, period_s, on_front = out.latency_s.T, out.period_s.T, out.on_front.T
    if not latency_s.shape == period_s.shape == on_front.shape == shape:
        raise BadInputError(f"out: got arrays of shape {out.latency_s.shape}, expected {shape[::-1]}")
    ruled_by = contenders(response) if ruled_by is None else ruled_by
    for start in range(0, shape[1], chunk_links):
        part = slice(start, start + chunk_links)
        rate, delay, back = (values[part] for values in links)
        unloaded, slowest = latency_s[:, part], period_s[:, part]
        response.services_s(1 / rate, delay, back, unloaded_s=unloaded, slowest_s=slowest)
        latency, period = in_mode(unloaded, slowest, response.mode)
        if period is not slowest:  # in `paced` they are in their places already
            latency_s[:, part], period_s[:, part] = latency, period
        _mark_fronts(on_front[:, part], latency, period, ruled_by)
    return out


def _mark_fronts(on_front: NDArray[np.bool_], latency: Array, period: Array, ruled_by: NDArray[np.intp]) -> None:
    """Set the fronts of objectives of shape (splits, links)."""
    places = np.arange(len(ruled_by))
    own = places[ruled_by == places]
    on_front[own] = are_nondominated(latency[own], period[own])
    doubt = np.zeros(latency.shape[1], dtype=np.bool_)
    for place in places[ruled_by != places]:
        by = ruled_by[place]
        # As good as its contender, it shares its fate; if not, it is dominated by it.
        as_good = (latency[place] <= latency[by]) & (period[place] <= period[by])
        no_better = (latency[place] >= latency[by]) & (period[place] >= period[by])
        on_front[place] = on_front[by] & as_good
        doubt |= ~no_better
    if doubt.any():
        on_front[:, doubt] = are_nondominated(latency[:, doubt], period[:, doubt])
