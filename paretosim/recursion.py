"""Batches through a line of stations, one event at a time: the max-plus recursion (docs/model.md, "Recursion").

Station j serves one batch at a time, in order, and holds a served batch until there is room before station j + 1. It
may be held for h_j longer by what it waits for itself once the batch has gone on (the answer to a call), and takes the
next one after that. With S the start of a service, D the departure, F when the station is free again, b slots before a
station (the batch in service not counted), window W and p the delay behind a station (terms with n ≤ 0 are absent):

    D[n, 0] = max(arrival_n, D[n − W, m])
    S[n, j] = max(D[n, j−1] + p_{j−1}, F[n−1, j])
    D[n, j] = max(S[n, j] + t[n, j], F[n − b_{j+1} − 1, j+1])      j < m
    D[n, m] = S[n, m] + t[n, m]
    F[n, j] = D[n, j] + h_j

Only n and j are loops; everything else (plans, links, samples) is in the arrays. A service may depend on when it
starts, so a station is a function from a start to an end, and arrays of service times are one kind of it. Only as
many batches are remembered as a window or a buffer looks back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paretosim.errors import BadInputError

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Room before each station but the first, the batch in service not counted; None or infinite without bounds.
Slots = Sequence[float | None]
# When the service of batch n (from 0) ends that starts then; and when what leaves then has arrived at the next station.
Serve = Callable[[int, "Array"], "Array"]
Carry = Callable[[int, "Array", "Array"], "Array"]


class Passage(NamedTuple):
    """One batch's way through the line: arrays of any one shape, in seconds, one a station where there are several.

    A batch is served from `starts_s` to `ends_s` and holds the station until `departures_s`; the station takes the
    next one from `freed_s` on.
    """

    dispatched_s: Array
    starts_s: tuple[Array, ...]
    ends_s: tuple[Array, ...]
    departures_s: tuple[Array, ...]
    freed_s: tuple[Array, ...]
    returned_s: Array


class Run(NamedTuple):
    """What objectives are computed from: times of all batches, (…, batches) each, in seconds.

    `started_s` is the start of the station that was asked for.
    """

    dispatched_s: Array
    started_s: Array
    returned_s: Array

    @property
    def latencies_s(self) -> Array:
        """From the dispatch to the return, (…, batches)."""
        return self.returned_s - self.dispatched_s


def passages(
    stations: Sequence[Serve],
    carries: Sequence[Carry | Array | float],
    arrivals_s: Iterable[Array | float],
    *,
    control_delay_s: Array | float = 0.0,
    held_s: Sequence[Array | float] | None = None,
    slots: Slots | None = None,
    window: int | None = None,
) -> Iterator[Passage]:
    """Each batch's way through the line, in order, as long as there are arrivals.

    Parameters
    ----------
    stations : m functions (n, start) → end of the service.
    carries : m delays p_1 … p_m in seconds, each an array that broadcasts against the times, or a function (n, start,
        departure) → arrival. The last one is the way back to the orchestrator.
    arrivals_s : when each batch may be dispatched at the earliest, never falling; finite or not.
    control_delay_s : p_0, from a dispatch to the first station.
    held_s : h_1 … h_m, arrays as those of `carries`; None where no station is held.
    slots : m − 1 numbers, b_2 … b_m. The first station's batches wait outside the line.
    window : batches between dispatch and return at most; None for no bounds.

    Raises
    ------
    BadInputError : a buffer of fewer than 0 slots, a window below 1, or numbers that do not belong together.
    """
    count = len(stations)
    bounds = _checked(count, len(carries), slots, window)
    depth = max([1, *(bound + 1 for bound in bounds if bound is not None), *([window] if window else [])])
    # When station j was free of batch n, [n % depth][j], of batches that can still matter; the last is the return.
    history: list[tuple[Array, ...]] = []
    for n, arrival in enumerate(arrivals_s):
        dispatched = np.asarray(arrival, dtype=np.float64)
        if window is not None and n >= window:
            dispatched = np.maximum(dispatched, history[(n - window) % depth][count])
        at: Array = dispatched + control_delay_s
        starts: list[Array] = []
        ends: list[Array] = []
        departures: list[Array] = []
        freed: list[Array] = []
        for j, serve in enumerate(stations):
            start = np.maximum(at, history[(n - 1) % depth][j]) if n else at
            end = departure = serve(n, start)
            bound = bounds[j] if j + 1 < count else None
            if bound is not None and n > bound:
                departure = np.maximum(end, history[(n - bound - 1) % depth][j + 1])
            carry = carries[j]
            at = carry(n, start, departure) if callable(carry) else departure + carry
            starts.append(start)
            ends.append(end)
            departures.append(departure)
            freed.append(departure if held_s is None else departure + held_s[j])
        if n < depth:
            history.append((*freed, at))
        else:
            history[n % depth] = (*freed, at)
        yield Passage(dispatched, tuple(starts), tuple(ends), tuple(departures), tuple(freed), at)


def run(
    services_s: Array,
    delays_s: Array,
    arrivals_s: Array,
    *,
    control_delay_s: Array | float = 0.0,
    held_s: Array | None = None,
    slots: Slots | None = None,
    window: int | None = None,
    started_at: int = 0,
) -> Run:
    """All batches through stations with given service times.

    Parameters
    ----------
    services_s : (…, batches, m) or (…, 1, m) seconds; the latter where all batches are alike.
    delays_s : (…, m) seconds, that behind each station.
    arrivals_s : (…, batches) seconds, never falling.
    control_delay_s : (…) seconds.
    held_s : (…, m) seconds for which each station is held when a batch has gone on; None for none.
    slots, window : as in `passages`.
    started_at : station (from 0) whose starts are wanted.

    Returns
    -------
    Run : arrays (…, batches) of the broadcast shape.
    """
    services_s, delays_s, arrivals_s = np.asarray(services_s), np.asarray(delays_s), np.asarray(arrivals_s)
    held = None if held_s is None or not held_s.any() else list(np.moveaxis(held_s, -1, 0))
    batches, count = arrivals_s.shape[-1], services_s.shape[-1]
    alike = services_s.shape[-2] == 1
    if not alike and services_s.shape[-2] != batches:
        raise BadInputError(
            f"services: got {services_s.shape[-2]} batches, expected 1 or as many as arrivals: {batches}"
        )
    # One contiguous array for each batch and station: the recursion then never strides.
    columns = np.ascontiguousarray(np.moveaxis(services_s, (-2, -1), (0, 1)))
    leading = [services_s.shape[:-2], delays_s.shape[:-1], arrivals_s.shape[:-1], np.shape(control_delay_s)]
    leading += [] if held_s is None else [held_s.shape[:-1]]
    shape = np.broadcast_shapes(*leading)

    def served(j: int) -> Serve:
        return lambda n, start: start + columns[0 if alike else n, j]

    times = np.empty((3, batches, *shape))
    line = passages(
        [served(j) for j in range(count)],
        list(np.moveaxis(delays_s, -1, 0)),
        np.moveaxis(arrivals_s, -1, 0),
        control_delay_s=control_delay_s,
        held_s=held,
        slots=slots,
        window=window,
    )
    for n, passage in enumerate(line):
        times[0, n], times[1, n], times[2, n] = passage.dispatched_s, passage.starts_s[started_at], passage.returned_s
    return Run(*np.moveaxis(times, 1, -1))


def intervals_s(occupied_s: Array, delays_s: Array, slots: Slots | None = None) -> Array:
    """How often each station can take a batch; the largest is the interval of a line never short of batches.

    A station is no faster than it is occupied, t_j + h_j. What is on its way to it or in it has a slot each, from the
    departure before until it is free again, so it is no faster either than (p_{j−1} + t_j + h_j) / (b_j + 1). Exact
    for fixed services (docs/model.md, "Finite buffers").

    Parameters
    ----------
    occupied_s, delays_s : (…, m) seconds; what a station is held for once a batch has gone on is among the former.

    Returns
    -------
    (…, m) seconds.
    """
    bounds = _checked(occupied_s.shape[-1], delays_s.shape[-1], slots, None)
    intervals = np.array(occupied_s, dtype=np.float64)
    for j, bound in enumerate(bounds):
        if bound is not None:
            credit_s = (delays_s[..., j] + occupied_s[..., j + 1]) / (bound + 1)
            intervals[..., j + 1] = np.maximum(intervals[..., j + 1], credit_s)
    return intervals


def _checked(stations: int, carries: int, slots: Slots | None, window: int | None) -> tuple[int | None, ...]:
    given = tuple(slots) if slots is not None else (None,) * (stations - 1)
    if any(bound is not None and not (bound >= 0 and (bound == np.inf or bound == int(bound))) for bound in given):
        raise BadInputError(f"buffers: got {given} slots, expected a whole number of 0 or more for each")
    bounds = tuple(None if bound is None or bound == np.inf else int(bound) for bound in given)
    if not stations or carries != stations or len(bounds) != stations - 1:
        raise BadInputError(
            f"line: got {stations} stations, {carries} delays and {len(bounds)} buffers, expected one delay for each"
            " station and a buffer between any two"
        )
    if window is not None and window < 1:
        raise BadInputError(f"window: got {window}, expected 1 or more")
    return bounds
