"""What a probe of a link leaves behind, and what is computed from it on read. Pure: no sockets.

Raw samples alone are kept: round trips of empty messages, of messages of rising size and of messages after a pause, and
the four times of each clock exchange. Costs per message and per byte, how much later a message comes after a rest, and
the offset between two clocks, are computed here.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from hwrun.errors import RecordError
from paretosim.link import Link

Scalar = str | int | float | bool | None
Medium = Literal["loopback", "veth", "relay", "network", "memory"]
# Beyond this many scales a residual is an outlier to Huber's estimator, which then counts it less (95 % efficiency).
_HUBER = 1.345
# Scales a median absolute deviation to the standard deviation of a normal distribution (1 / Φ⁻¹(3/4)).
_MAD_TO_SIGMA = 1.4826
_FIT_ROUNDS = 50
# Pauses after which half of the delay has come are looked for in steps finer than any measurement.
_HALF_STEP = 1.01
# Two are a line through any law.
_FEWEST_PAUSES = 3


class EchoSample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages of one size, each sent whole and answered by an empty one when its last byte had arrived.

    So a round trip holds the message's way there and an empty message's way back. Those of `warmup_s` came first:
    they met buffers that were new and a window that was still small.
    """

    size_bytes: int
    warmup_s: tuple[float, ...] = ()
    round_trips_s: tuple[float, ...]


class RestedSample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages of one size, each sent after the path had carried nothing for `pause_s` and both ends had waited.

    As in an EchoSample, each is answered by an empty one when it is whole. A pause of 0 is right behind another
    exchange.
    """

    pause_s: float
    size_bytes: int
    round_trips_s: tuple[float, ...]


class ClockExchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exchange between two monotonic clocks: sent and returned on the near one, arrived and answered on the far."""

    sent_s: float
    arrived_s: float
    answered_s: float
    returned_s: float

    @property
    def round_trip_s(self) -> float:
        """From sending to the answer, on the near clock."""
        return self.returned_s - self.sent_s


class LinkMeasured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a probe of the data path found, from the dialling (near) end.

    `medium` is what carried the bytes: `loopback`, `veth` (unshaped), `relay` (shaped) or a `network`.
    `rtt_samples_s` are round trips of an empty message. `goodput_bps` counts payload bits received per second in
    steady state, None where the probe could not tell. `echo` has messages of rising size, as far as the time allowed;
    `echo_left_out_bytes` are the sizes that it did not allow. `rested` has messages after pauses, where the probe made
    them. `near_tcp`, `far_tcp` are TCP_INFO and buffer sizes of
    the two sockets at the end.
    """

    medium: Medium
    rtt_samples_s: tuple[float, ...]
    goodput_bps: float | None
    probe_bytes: int
    echo: tuple[EchoSample, ...] = ()
    echo_left_out_bytes: tuple[int, ...] = ()
    rested: tuple[RestedSample, ...] = ()
    clock: tuple[ClockExchange, ...] = ()
    near_tcp: dict[str, Scalar] = {}
    far_tcp: dict[str, Scalar] = {}

    def in_brief(self) -> LinkMeasured:
        """Round trips and goodput alone, as every cell repeats them; the rest is in the run's probes."""
        return LinkMeasured(
            medium=self.medium,
            rtt_samples_s=self.rtt_samples_s,
            goodput_bps=self.goodput_bps,
            probe_bytes=self.probe_bytes,
        )


class WorkerClock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exchanges between the orchestrator's clock (near) and a worker's (far), over the control connection."""

    worker: str
    exchanges: tuple[ClockExchange, ...]


class LinkProbe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A probe within a run: of which link, from which worker to which, and whether before or after its cells.

    `link_asked` is None for an unshaped link. A resumed sweep probes again, so a link may have several of each.
    """

    link_name: str
    link_asked: Link | None
    moment: Literal["before", "after"]
    started_utc: str
    near: str
    far: str
    measured: LinkMeasured
    clocks: tuple[WorkerClock, ...] = ()


@dataclass(frozen=True)
class EchoCost:
    """Round trip of a message of S bytes, answered by an empty one: `per_message_s` + S · `per_byte_s`.

    `spread` is the scaled median absolute deviation of the relative residuals.
    """

    per_message_s: float
    per_byte_s: float
    spread: float


def echo_cost(samples: Sequence[EchoSample]) -> EchoCost | None:
    """Cost per message and per byte by robust regression over all raw round trips; None with fewer than two sizes.

    Residuals are relative, so that a message of 64 B counts as much as one of 64 MB, and weighted after Huber, so
    that a round trip that something interrupted does not bend the line. Neither cost is negative.

    >>> line = [EchoSample(size_bytes=s, round_trips_s=(0.001 + s * 1e-8,)) for s in (64, 65536, 1048576)]
    >>> cost = echo_cost(line)
    >>> f"{cost.per_message_s:.6f} {cost.per_byte_s:.3g}"
    '0.001000 1e-08'
    """
    points = [(float(sample.size_bytes), time_s) for sample in samples for time_s in sample.round_trips_s]
    if len({size for size, _ in points}) < 2 or min(time_s for _, time_s in points) <= 0:
        return None
    weights = [1.0] * len(points)
    scale = intercept = slope = 0.0
    for _ in range(_FIT_ROUNDS):
        previous = intercept, slope
        intercept, slope = _relative_line(points, weights)
        residuals = [(intercept + slope * size) / time_s - 1 for size, time_s in points]
        scale = _MAD_TO_SIGMA * statistics.median(abs(residual) for residual in residuals)
        if scale == 0 or (intercept, slope) == previous:
            break
        weights = [min(1.0, _HUBER * scale / abs(residual)) if residual else 1.0 for residual in residuals]
    return EchoCost(per_message_s=intercept, per_byte_s=slope, spread=scale)


def _relative_line(points: Sequence[tuple[float, float]], weights: Sequence[float]) -> tuple[float, float]:
    """Least squares of (a + b·size − time) / time, with neither coefficient below zero."""
    one = size_one = size_two = time_one = time_size = 0.0
    for (size, time_s), weight in zip(points, weights, strict=True):
        w = weight / time_s**2
        one += w
        size_one += w * size
        size_two += w * size**2
        time_one += w * time_s
        time_size += w * time_s * size
    determinant = one * size_two - size_one**2
    intercept = (time_one * size_two - time_size * size_one) / determinant
    slope = (one * time_size - size_one * time_one) / determinant
    if intercept < 0:
        return 0.0, time_size / size_two
    if slope < 0:
        return time_one / one, 0.0
    return intercept, slope


@dataclass(frozen=True)
class RestingCost:
    """How much later a message comes after a rest of p seconds than a moment's: `later_s` · p / (p + `half_s`).

    At most `later_s`, and half of that after a rest of `half_s`. What it costs that threads sleep at all is not in it.
    """

    later_s: float
    half_s: float

    def after_s(self, pause_s: float) -> float:
        """Seconds that a message comes later after that rest."""
        return self.later_s * pause_s / (pause_s + self.half_s)


def resting_cost(samples: Sequence[RestedSample]) -> RestingCost | None:
    """What rests of growing length cost a message, by the slope of Theil and Sen over the medians of all sizes.

    A message right behind another meets threads that are still awake. That they sleep at all, after however short a
    pause, costs every message of a pipeline as much, so it is left to each size's own level: what counts is how much
    later messages come after longer pauses than after shorter ones. A median is not moved by one round trip that
    something interrupted; but a machine that is shared interrupts most of those after one long pause, and least squares
    would follow that point. So `later_s` is, for a given `half_s`, the median of the slopes between all pairs of pauses
    of one size, each weighted by how far its pauses are apart; `half_s` is looked for among the lengths of pauses that
    were tried, from the shortest to the longest, for the least sum of absolute deviations: what happens within less
    than the shortest no sample has seen, and a law that has most of it there would be read off nearly equal medians.
    Source: P. K. Sen, J. Am. Stat. Assoc. 63 (1968); the weights are L. A. Jaeckel's (Ann. Math. Stat. 43, 1972).

    Returns
    -------
    None without samples of one size after three pauses, or where messages come no later after longer ones.

    >>> later = lambda pause_s: 0.0007 * pause_s / (pause_s + 0.06)
    >>> pauses = (0.005, 0.01, 0.05, 0.2)
    >>> cost = resting_cost(
    ...     [RestedSample(pause_s=p, size_bytes=64, round_trips_s=(0.0002 + later(p),)) for p in pauses]
    ... )
    >>> f"{cost.later_s:.4f} {cost.half_s:.3f} {cost.after_s(0.1):.5f}"
    '0.0007 0.060 0.00044'
    """
    taken_s: dict[int, dict[float, list[float]]] = {}
    for sample in samples:
        if sample.pause_s > 0 and sample.round_trips_s:
            taken_s.setdefault(sample.size_bytes, {}).setdefault(sample.pause_s, []).extend(sample.round_trips_s)
    sizes = [
        [(pause_s, statistics.median(times_s)) for pause_s, times_s in of_size.items()]
        for of_size in taken_s.values()
        if len(of_size) >= _FEWEST_PAUSES
    ]
    if not sizes:
        return None
    pauses_s = [pause_s for of_size in sizes for pause_s, _ in of_size]
    shortest_s, longest_s = min(pauses_s), max(pauses_s)
    steps = range(math.ceil(math.log(longest_s / shortest_s, _HALF_STEP)) + 1)
    halves_s = (min(shortest_s * _HALF_STEP**step, longest_s) for step in steps)
    cost = min((_resting_cost_of_half(sizes, half_s) for half_s in halves_s), key=lambda one: _misfit(sizes, one))
    return cost if cost.later_s > 0 else None


# Median round trips of one size by pause.
_OfSize = Sequence[tuple[float, float]]


def _resting_cost_of_half(sizes: Sequence[_OfSize], half_s: float) -> RestingCost:
    """The best for that `half_s`; messages never come earlier for a rest."""
    slopes = []
    for of_size in sizes:
        for (pause_s, time_s), (other_s, other_time_s) in itertools.combinations(of_size, 2):
            apart = pause_s / (pause_s + half_s) - other_s / (other_s + half_s)
            slopes.append(((time_s - other_time_s) / apart, abs(apart)))
    slopes.sort()
    up_to = itertools.accumulate(apart for _, apart in slopes)
    half_of_all = sum(apart for _, apart in slopes) / 2
    later_s = next(slope for (slope, _), sum_ in zip(slopes, up_to, strict=True) if sum_ >= half_of_all)
    return RestingCost(later_s=max(0.0, later_s), half_s=half_s)


def _misfit(sizes: Sequence[_OfSize], cost: RestingCost) -> float:
    """Sum of absolute deviations, each size from its own level."""
    found = 0.0
    for of_size in sizes:
        left_s = [time_s - cost.after_s(pause_s) for pause_s, time_s in of_size]
        level_s = statistics.median(left_s)
        found += sum(abs(own_s - level_s) for own_s in left_s)
    return found


@dataclass(frozen=True)
class ClockOffset:
    """What to add to a time of the near clock to have it on the far one, and how wrong that can be."""

    offset_s: float
    error_s: float


def clock_offset(exchanges: Sequence[ClockExchange]) -> ClockOffset:
    """The offset by the exchange with the shortest time under way, as NTP takes it (RFC 5905, section 8).

    Its error is at most half of that time, however unlike the two ways are.

    >>> offset = clock_offset([ClockExchange(sent_s=10.0, arrived_s=110.25, answered_s=110.5, returned_s=10.75)])
    >>> offset.offset_s, offset.error_s
    (100.0, 0.25)

    Raises
    ------
    RecordError : no exchange was recorded.
    """
    if not exchanges:
        raise RecordError("clock offset: got no exchange between the two clocks, expected one or more; probe again")
    best = min(exchanges, key=_under_way_s)
    offset_s = ((best.arrived_s - best.sent_s) + (best.answered_s - best.returned_s)) / 2
    return ClockOffset(offset_s=offset_s, error_s=_under_way_s(best) / 2)


def _under_way_s(exchange: ClockExchange) -> float:
    return exchange.round_trip_s - (exchange.answered_s - exchange.arrived_s)
