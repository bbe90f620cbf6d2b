"""Rates at which the best split, or the front, changes: computed from the pieces, never from a grid.

At a fixed delay every station's time is affine in u = 1 / rate between the rates where a round of slow start stops
stalling, the window starts to cap the rate, or a transfer becomes longer than what goes on beside it: a host's sockets,
or a stage that it slows down (`link_response`). Cut further where two stations of a split are equally slow, both
objectives of every split are affine in u on each interval. Two splits then change places inside an interval where their
lines cross, or at its end. Between two neighbours of all those rates nothing changes, so one look in the middle says
which split is best and which are on the front (docs/model.md, "Break-even rates").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from paretosim.errors import BadInputError
from paretosim.pareto import are_nondominated
from paretosim.pipeline import in_mode
from paretosim.rates.contenders import contenders
from paretosim.rates.link_response import LinkResponse, StageResponse
from paretosim.rates.link_sweep import Sweep, sweep

Array = NDArray[np.float64]
_Scalar = TypeVar("_Scalar", np.int64, np.bool_)

# Rates closer than this (relative) are one: they are the same crossing, computed from two pairs of splits.
SAME_RATE = 1e-12


class Intervals(msgspec.Struct, frozen=True):
    """The best split between consecutive rates: `splits[i]` from `edges_bps[i]` to `edges_bps[i + 1]`, ascending."""

    edges_bps: Array
    splits: NDArray[np.int64]


class FrontIntervals(msgspec.Struct, frozen=True):
    """The front between consecutive rates: row i of `on_front`, (intervals, splits), as `Intervals`."""

    edges_bps: Array
    on_front: NDArray[np.bool_]


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """Intervals of rate for each question. Ties are broken as in `predict`: better other objective, then lower split.

    Between neighbours of `pieces_bps` (ascending, ends included) every objective of every split is affine in 1 / rate,
    and no two splits of interest change places.
    """

    latency: Intervals
    throughput: Intervals
    fronts: FrontIntervals
    pieces_bps: Array
    one_way_delay_s: float
    return_delay_s: float

    @property
    def distinct_fronts(self) -> int:
        """How many different sets of splits are the front somewhere."""
        return len(np.unique(self.fronts.on_front, axis=0))


class RobustChoice(msgspec.Struct, frozen=True):
    """The split whose worst loss over a range of rates is smallest.

    `regret` is that loss: for latency, how much longer than the best split's, and for throughput, how much less, as a
    fraction of the best split's. It is reached at `worst_rate_bps`, where `best_there` is best.
    """

    split: int
    regret: float
    worst_rate_bps: float
    best_there: int


def break_even(
    response: LinkResponse,
    *,
    low_bps: float,
    high_bps: float,
    one_way_delay_s: float = 0.0,
    return_delay_s: float = 0.0,
) -> BreakEven:
    """Intervals of rate on which the best splits and the front stay the same, from `low_bps` to `high_bps`.

    Raises
    ------
    BadInputError : not 0 < low < high, or a delay that is negative or not finite.
    """
    if not 0 < low_bps < high_bps < np.inf:
        raise BadInputError(f"rates: got {low_bps:g} to {high_bps:g} bit/s, expected two finite ones, the lower first")
    delays = (one_way_delay_s, return_delay_s)
    if not all(0 <= delay < np.inf for delay in delays):
        raise BadInputError(f"delays: got {delays} s, expected finite times of 0 or more")
    edges = _station_edges(response, 1 / high_bps, 1 / low_bps, sum(delays))
    stations = _stations(response, _middles(edges), delays)
    refined = _refined(response, edges, stations)
    # A station's line is the same in all parts of an interval.
    within = np.searchsorted(edges, _middles(refined)) - 1
    stations = [of.take(within, axis=2) for of in stations]
    ruled_by = contenders(response)
    cuts = _apart(np.concatenate([refined, _crossings(response, ruled_by, refined, stations)]))
    middles = sweep(response, 1 / _middles(cuts), *delays, ruled_by=ruled_by)
    edges_bps = 1 / cuts[::-1]
    edges_bps[[0, -1]] = low_bps, high_bps  # to the last bit
    best = [response.splits[places][::-1] for places in best_places(middles)]
    return BreakEven(
        latency=Intervals(*merged(edges_bps, best[0])),
        throughput=Intervals(*merged(edges_bps, best[1])),
        fronts=FrontIntervals(*merged(edges_bps, middles.on_front[::-1])),
        pieces_bps=edges_bps,
        one_way_delay_s=one_way_delay_s,
        return_delay_s=return_delay_s,
    )


def best_places(found: Sweep) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the split of lowest latency and of the one of highest throughput on each link, (links,) each."""
    orders = ((found.latency_s, found.period_s), (found.period_s, found.latency_s))
    places = []
    for first, second in orders:
        tied = first == first.min(axis=1, keepdims=True)
        places.append(np.where(tied, second, np.inf).argmin(axis=1))  # the lowest split of equals
    return places[0], places[1]


def robust_choices(response: LinkResponse, found: BreakEven) -> tuple[RobustChoice, RobustChoice]:
    """The minimax-regret splits for latency and for throughput over the rates of `found`.

    Between neighbours of `pieces_bps` a split's objective and the best one are both affine in u. The quotient of
    two affine functions is monotone wherever its denominator is above zero, so the largest quotient is at an end of
    some piece, and looking at the ends is exact.
    """
    ends = sweep(response, found.pieces_bps, found.one_way_delay_s, found.return_delay_s)
    quotients = [values / values.min(axis=1, keepdims=True) for values in (ends.latency_s, ends.period_s)]
    worst = [quotient.max(axis=0) for quotient in quotients]
    best = best_places(ends)
    choices = []
    for own, other in ((0, 1), (1, 0)):
        place = np.lexsort((response.splits, worst[other], worst[own]))[0]
        at = int(quotients[own][:, place].argmax())
        loss = float(worst[own][place])
        choices.append(
            RobustChoice(
                split=int(response.splits[place]),
                regret=loss - 1 if own == 0 else 1 - 1 / loss,
                worst_rate_bps=float(found.pieces_bps[at]),
                best_there=int(response.splits[best[own][at]]),
            )
        )
    return choices[0], choices[1]


def _station_edges(response: LinkResponse, start: float, end: float, rtt_s: float) -> Array:
    """U between which every station of every split is affine."""
    inner = [np.array([rtt_s / (8 * response.wmax_bytes)])]
    inner += [
        rtt_s / hop.thresholds_bits[hop.thresholds_bits > 0] for hop in response.hops if response.follows(hop)
    ]  # fmt: skip
    lengths = [(hop, hop.copied_s) for hop in response.hops]
    lengths += [(response.hops[place], stage.alone_s) for stage in response.slowed for place in stage.beside]
    for hop, other_s in lengths:
        if response.follows(hop):  # a transfer becomes longer than sockets take, or than the stage beside it
            both = (hop.wire_bits > 0) & (other_s > 0)
            inner.append(other_s[both] / hop.wire_bits[both])
    edges = np.concatenate(inner)
    return np.unique(np.concatenate([[start, end], edges[(start < edges) & (edges < end)]]))


def _stations(response: LinkResponse, middles: Array, delays: tuple[float, float]) -> list[Array]:
    """Intercepts (s) and slopes (bits) in u of L₀ and of the stations, (1 + stations, splits, intervals) each.

    Stations are the longest one that depends on no link, each hop, and each stage that transfers slow down.
    """
    rtt_s = np.full(len(middles), sum(delays))
    hops, slowed = len(response.hops), len(response.slowed)
    shape = (2 + hops + slowed, len(response.splits), len(middles))
    intercepts, slopes = np.zeros(shape), np.zeros(shape)
    intercepts[1] = response.slowest_constant_s[:, np.newaxis]
    transfers = []
    for station, hop in enumerate(response.hops, start=2):
        own = response.inverse_rates(hop, middles, rtt_s)
        rows = hop.rows(own, rtt_s)
        follows = (own == middles) & response.follows(hop)
        bits = hop.bits.take(rows, axis=1)
        np.multiply(hop.round_trips.take(rows, axis=1), rtt_s, out=intercepts[station])
        np.multiply(bits, follows, out=slopes[station])
        if not follows.all():
            intercepts[station] += np.where(follows, 0.0, bits * own)
        on_wire_s = np.multiply.outer(hop.wire_bits, own)
        if hop.copied_s.any():
            copied = hop.copied_s[:, np.newaxis] > on_wire_s
            copied_s = hop.copied_occupied_s(rtt_s)
            intercepts[station] = np.where(copied, copied_s, intercepts[station])
            slopes[station] = np.where(copied, 0.0, slopes[station])
        intercepts[station] += (hop.called * sum(delays) + hop.sent_s)[:, np.newaxis]
        transfers.append((on_wire_s, hop.wire_bits[:, np.newaxis] * follows))
    # In the order of `services_s`, so that equal splits get equal coefficients.
    intercepts[0] = response.constant_s[:, np.newaxis] + intercepts[2 : 2 + hops].sum(axis=0)
    slopes[0] = slopes[2 : 2 + hops].sum(axis=0)
    if slowed:
        shares = [_share(stage, [transfers[place] for place in stage.beside]) for stage in response.slowed]
        for station, (stage, share) in enumerate(zip(response.slowed, shares, strict=True), start=2 + hops):
            intercepts[station] = stage.alone_s[:, np.newaxis] + stage.kappa * share[0]
            slopes[station] = stage.kappa * share[1]
        intercepts[0] += response.contention_s([share[0] for share in shares])
        slopes[0] += response.contention_s([share[1] for share in shares])
    intercepts[0] += response.delays_s(*(np.array([delay]) for delay in delays))
    return [intercepts, slopes]


def _share(stage: StageResponse, transfers: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Intercept and slope of Σ min(c, x), (splits, intervals), from x in the middles and its slope, for each hop."""
    alone_s = stage.alone_s[:, np.newaxis]
    intercept, slope = stage.shared_s[:, np.newaxis], np.zeros(1)
    for middle_s, bits in transfers:
        within = middle_s < alone_s
        intercept = intercept + np.where(within, np.where(bits > 0, 0.0, middle_s), alone_s)
        slope = slope + np.where(within, bits, 0.0)
    return intercept, slope


def _refined(response: LinkResponse, edges: Array, stations: Sequence[Array]) -> Array:
    """`edges`, and where another station of a split becomes its slowest, or its window begins to bind."""
    if response.mode.name == "single":  # in which nothing depends on the slowest
        return _apart(edges)
    intercepts, slopes = (of[1:] for of in stations)
    if response.mode.window is not None:  # L₀ counts by its share of a window, as one more station
        intercepts, slopes = (np.concatenate([of[:1] / response.mode.window, of[1:]]) for of in stations)
    # A line that is the largest at both ends of an interval is so all along it, whatever the others do below it.
    first, last = ((intercepts + slopes * at).argmax(axis=0) for at in (edges[:-1], edges[1:]))
    split, interval = np.nonzero(first != last)
    intercepts, slopes = intercepts[:, split, interval], slopes[:, split, interval]
    ends = edges[interval], edges[interval + 1]
    one, two = np.triu_indices(len(intercepts), k=1)
    return _apart(np.append(edges, _zeros(ends, intercepts[one] - intercepts[two], slopes[one] - slopes[two])))


def _crossings(
    response: LinkResponse, ruled_by: NDArray[np.intp], edges: Array, stations: Sequence[Array]
) -> Array:  # fmt: skip
    """U at which two splits change places in latency or period, or become or cease to be equal."""
    places = np.arange(len(ruled_by))
    own, rest = places[ruled_by == places], places[ruled_by != places]
    middles = _middles(edges)
    objectives = _objectives(response, middles, stations)
    # What another split is no worse than at both ends of an interval, and better somewhere, is so all along it.
    ends = [intercept[own] + slope[own] * at for intercept, slope in objectives for at in (edges[:-1], edges[1:])]
    in_question = are_nondominated(*ends).T
    found = []
    for (intercept, slope), before, after in zip(objectives, ends[::2], ends[1::2], strict=True):
        found.append(_swaps(edges, intercept[own].T, slope[own].T, before.T, after.T, in_question))
        values = intercept + slope * middles
        order, in_order = _order(np.where(in_question, values[own].T, np.inf))
        # Any other split is never better than its contender, so it can only become its equal.
        same = np.equal(in_order[:, 1:], in_order[:, :-1])
        equal = np.concatenate([same, (values[ruled_by[rest]] == values[rest]).T], axis=1)
        changes = (order[1:] != order[:-1]).any(axis=1) | (equal[1:] != equal[:-1]).any(axis=1)
        found.append(edges[1:-1][changes])
    return np.concatenate(found)


def _swaps(
    edges: Array, intercept: Array, slope: Array, before: Array, after: Array, in_question: NDArray[np.bool_]
) -> Array:  # fmt: skip
    """Where any two lines in question cross inside their interval: (intervals, lines), and values at its two ends."""
    moved = np.flatnonzero((_order(before)[0] != _order(after)[0]).any(axis=1))  # in others all lines keep their order
    one, two = np.triu_indices(intercept.shape[1], k=1)
    asked = in_question[moved]
    row, pair = np.nonzero(asked[:, one] & asked[:, two])
    interval, one, two = moved[row], one[pair], two[pair]
    a, b = (lines[interval, one] - lines[interval, two] for lines in (intercept, slope))
    return _zeros((edges[interval], edges[interval + 1]), a, b)


def _order(values: Array) -> tuple[NDArray[np.intp], Array]:
    """Places of each row's values in ascending order, equals by place, and the values in that order."""
    order = values.argsort(axis=1, kind="stable")
    return order, np.take_along_axis(values, order, axis=1)


def _objectives(response: LinkResponse, middles: Array, stations: Sequence[Array]) -> list[tuple[Array, Array]]:
    """Intercepts and slopes of latency and of period, (splits, intervals) each, on intervals where they have them."""
    intercepts, slopes = stations
    slowest = (intercepts[1:] + slopes[1:] * middles).argmax(axis=0)[np.newaxis]
    intercept, slope = (np.take_along_axis(values[1:], slowest, axis=0)[0] for values in (intercepts, slopes))
    window = response.mode.window
    if window is None:
        latency, period = zip(
            in_mode(intercepts[0], intercept, response.mode), in_mode(slopes[0], slope, response.mode), strict=True
        )
        return [latency, period]
    full = intercept + slope * middles >= (intercepts[0] + slopes[0] * middles) / window
    # Latency is W periods, so its order is the period's.
    return [(np.where(full, intercept, intercepts[0] / window), np.where(full, slope, slopes[0] / window))]


def _zeros(ends: tuple[Array, Array], intercept: Array, slope: Array) -> Array:
    """Where lines, (…, n), are zero inside their own of n intervals with these two ends."""
    with np.errstate(divide="ignore", invalid="ignore"):  # parallel to the axis: nowhere
        at = -intercept / slope
    return np.asarray(at[(ends[0] < at) & (at < ends[1])])


def _middles(edges: Array) -> Array:
    return np.asarray(np.sqrt(edges[:-1] * edges[1:]))


def _apart(edges: Array) -> Array:
    """The edges in order, those that are one but for rounding once; the last is kept."""
    ordered = np.unique(edges)
    return np.asarray(ordered[np.append(np.diff(ordered) > SAME_RATE * ordered[1:], True)])


def merged(edges: Array, values: NDArray[_Scalar]) -> tuple[Array, NDArray[_Scalar]]:
    """The same intervals with neighbours of equal value joined."""
    differs = values[1:] != values[:-1]
    starts = np.append(True, differs if differs.ndim == 1 else differs.any(axis=1))
    return np.append(edges[:-1][starts], edges[-1]), values[starts]
