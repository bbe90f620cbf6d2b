"""The exact front of latency and period over all placements of a chain of blocks on chains of devices.

Latency is a sum and period a maximum. Under an upper limit on the period, the services above it are struck out and
what is left is a shortest path: one label for each (block, stage), its least latency. Of the shortest placements the
one of least period is a point of the front; the next point lies below that period. So every pass over the labels gives
one point, from the lowest latency up, and nothing that is not on the front (docs/model.md, "k devices").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from paretosim.placement.device_chains import Chains

Array = NDArray[np.float64]

# Sums of whole quanta up to this are exact in a float64, whatever their order: 2⁵³, and room for a factor of two.
EXACT_QUANTA = 4e15
# How many times longer than everything else delays may be before quanta are chosen without them: three digits less.
_TOLERATED_DELAYS = 1e3
# Entries of a (nodes, blocks + 1, blocks + 1) table that are worked on at once: 8 MB.
_CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What every part of a placement costs, for d devices, k kinds of stages and N blocks, in any unit of time.

    `block` (k, N) holds block times, `more` (k, N + 1, N + 1) what blocks [i, j) as a stage take beside their sum, and
    `possible`, of the same shape, whether they may be one. `hop` (stations, d, d, N + 1) at [s, a, b, i] is how long
    station s between device a and b is taken after i blocks, `hop_delay` (d, d) what is waited there. `closing`
    (stations, d, d) and `closing_delay` (d, d) belong to the way from a chain's last device, which is the first index,
    to its first one. `dispatch` is paid once.
    """

    block: Array
    more: Array
    possible: NDArray[np.bool_]
    hop: Array
    hop_delay: Array
    closing: Array
    closing_delay: Array
    dispatch: float

    def in_quanta(self, per_second: float) -> Costs:
        """The same in whole quanta, of which there are so many to a second, as floats."""

        def whole(values: Array) -> Array:
            with np.errstate(over="ignore"):  # what is far too large is never on the front
                return np.rint(values * per_second)

        return Costs(
            block=whole(self.block),
            more=whole(self.more),
            possible=self.possible,
            hop=whole(self.hop),
            hop_delay=whole(self.hop_delay),
            closing=whole(self.closing),
            closing_delay=whole(self.closing_delay),
            dispatch=float(np.rint(self.dispatch * per_second)),
        )

    @cached_property
    def stage(self) -> Array:
        """(k, N + 1, N + 1) times of blocks [i, j) as a stage; infinite where that is not possible."""
        found = np.zeros(self.possible.shape)
        for first in range(self.block.shape[1]):
            # From each first block on: differences of one running sum would carry what came before.
            found[:, first, first + 1 :] = self.block[:, first:].cumsum(axis=1)
        found += self.more
        found[~self.possible] = np.inf
        return found


@dataclass(frozen=True)
class Part:
    """Blocks [first, last) on a device (position from 0)."""

    device: int
    first: int
    last: int


@dataclass(frozen=True)
class Point:
    """A point of the front: how many placements attain it, and the first of them.

    `placements` are sorted by number of stages, then by devices, then by cuts; those of fewer stages are listed first.
    """

    placements: tuple[tuple[Part, ...], ...]
    count: int


def front(costs: Costs, chains: Chains, *, listed: int) -> list[Point]:
    """Every point of the latency–period front, from the lowest latency up.

    Parameters
    ----------
    listed : how many placements of each point are listed at most; all are counted.
    """
    if not len(chains):
        return []
    longest = _highest_latency(costs, chains)
    if longest is None:
        return []
    # A power of ten, so that times which people write, such as 0.1 + 0.2 and 0.3, are equal here too.
    per_second = 10.0 ** min(math.floor(math.log10(EXACT_QUANTA / longest)), 300) if longest else 1.0
    quanta = costs.in_quanta(per_second)
    points: list[Point] = []
    limit = math.inf
    while True:
        labels = _Labels(quanta, chains, limit)
        if not math.isfinite(labels.latency):
            return points
        shortest = _Shortest(labels)
        limit = shortest.least_period()
        points.append(shortest.point(limit, listed))


def _highest_latency(costs: Costs, chains: Chains) -> float | None:
    """A latency that no point of the front exceeds; None where there is no placement at all."""
    lowest = _Labels(costs, chains, math.inf).latency
    if not math.isfinite(lowest):
        return None
    # No service on the front exceeds the lowest latency, so a chain of that many stations bounds all but the delays.
    devices = len(costs.hop_delay)
    services = lowest * (1 + len(costs.hop)) * (1 + devices) + costs.dispatch
    delays = float(costs.hop_delay.max() + costs.closing_delay.max()) * devices
    if delays <= _TOLERATED_DELAYS * services:
        return services + delays
    # Some delay is so long that its quanta would be too coarse for the rest. The point of the least period, found by
    # halving the list of all services, says whether it is on the front.
    services_of = (costs.stage, costs.hop.max(axis=0), costs.closing.max(axis=0))
    limits = np.unique(np.concatenate([values[values <= lowest] for values in services_of]))
    low, high = 0, len(limits) - 1
    while low < high:
        middle = (low + high) // 2
        if math.isfinite(_Labels(costs, chains, np.nextafter(limits[middle], np.inf)).latency):
            high = middle
        else:
            low = middle + 1
    return 2 * _Labels(costs, chains, np.nextafter(limits[high], np.inf)).latency


class _Labels:
    """Least latency of every (node, block), over services below `limit`; infinite where there is no way.

    `arrive` and `depart` are (nodes + 1, N + 1): before and after a node's stage, with i blocks done. Their last row
    stands for no node.
    """

    def __init__(self, costs: Costs, chains: Chains, limit: float) -> None:
        self.chains = chains
        self.stage = np.where(costs.stage < limit, costs.stage, np.inf)
        # The longest station of a hop says whether it is struck out, and all of them how long a batch takes.
        self.hop, self.closing = costs.hop.max(axis=0), costs.closing.max(axis=0)
        crossing = np.where(self.hop < limit, costs.hop.sum(axis=0), np.inf) + costs.hop_delay[:, :, None]
        closing = np.where(self.closing < limit, costs.closing.sum(axis=0), np.inf) + costs.closing_delay
        self.crossing = crossing
        count, cuts = len(chains), costs.stage.shape[1]
        self.arrive = np.full((count + 1, cuts), np.inf)
        self.depart = np.full((count + 1, cuts), np.inf)
        device_of = np.append(chains.device, 0)
        for group in chains.groups:
            nodes = slice(group.first, group.last)
            arrive = self.arrive[nodes]
            if group.before.shape[1]:
                ways = self.depart[group.before] + crossing[device_of[group.before], group.device]
                ways.min(axis=1, out=arrive)
            arrive[chains.begins[nodes], 0] = costs.dispatch
            step = max(1, _CHUNK // cuts**2)
            for first in range(0, len(arrive), step):
                spans = arrive[first : first + step, :, None] + self.stage[group.kind]
                spans.min(axis=1, out=self.depart[group.first + first : group.first + first + len(spans)])
        last, start = chains.device, chains.start_device
        self.total = self.depart[:-1, -1] + closing[last, start]
        self.total[~chains.ends] = np.inf
        self.latency = float(self.total.min())


# A node of the graph with so many blocks done; None stands for nothing done yet.
_State = tuple[int, int]
# The largest service on the way, where it comes from, and the part that it adds (none at the end of the chain).
_Edge = tuple[float, "_State | None", "Part | None"]


class _Shortest:
    """All placements of the least latency, as the graph of steps that attain a label exactly."""

    def __init__(self, labels: _Labels) -> None:
        self._labels = labels
        self._edges: dict[_State, list[_Edge]] = {}
        ends = np.flatnonzero(labels.total == labels.latency)
        last, start = labels.chains.device[ends], labels.chains.start_device[ends]
        cuts = labels.depart.shape[1]
        self._ends: list[_Edge] = [
            (float(closing), (node, cuts - 1), None)
            for closing, node in zip(labels.closing[last, start], ends.tolist(), strict=True)
        ]

    def least_period(self) -> float:
        """The least period among the shortest placements."""
        found: dict[_State, float] = {}

        def least(edges: list[_Edge]) -> float:
            return min(max(service, 0.0 if state is None else at(state)) for service, state, _ in edges)

        def at(state: _State) -> float:
            if state not in found:
                found[state] = least(self._before(state))
            return found[state]

        return least(self._ends)

    def point(self, period: float, listed: int) -> Point:
        """The shortest placements of at most that period: how many, and the first of them."""
        counts: dict[_State, dict[int, int]] = {}

        def by_stages(edges: list[_Edge]) -> dict[int, int]:
            """How many ways there are to get here, by how many stages they have."""
            ways: dict[int, int] = {}
            for service, state, part in edges:
                if service > period:
                    continue
                for stages, count in ({0: 1} if state is None else at(state)).items():
                    length = stages + (part is not None)
                    ways[length] = ways.get(length, 0) + count
            return ways

        def at(state: _State) -> dict[int, int]:
            if state not in counts:
                counts[state] = by_stages(self._before(state))
            return counts[state]

        def walks(edges: list[_Edge], stages: int) -> Iterator[tuple[Part, ...]]:
            """Ways of exactly so many stages."""
            for service, state, part in edges:
                own = () if part is None else (part,)
                if service > period:
                    continue
                if state is None:
                    if stages == len(own):
                        yield own
                elif stages - len(own) in at(state):
                    for way in walks(self._before(state), stages - len(own)):
                        yield (*way, *own)

        ways = by_stages(self._ends)
        placements: list[tuple[Part, ...]] = []
        for stages in sorted(ways):
            found = [way for way, _ in zip(walks(self._ends, stages), range(listed - len(placements)), strict=False)]
            placements += sorted(found, key=lambda way: ([p.device for p in way], [p.last for p in way]))
            if len(placements) == listed:
                break
        return Point(tuple(placements), sum(ways.values()))

    def _before(self, state: _State) -> list[_Edge]:
        if state not in self._edges:
            self._edges[state] = list(self._steps(*state))
        return self._edges[state]

    def _steps(self, node: int, last: int) -> Iterator[_Edge]:
        labels, chains = self._labels, self._labels.chains
        device = int(chains.device[node])
        stage = labels.stage[chains.kind[node], : last + 1, last]
        begun = labels.arrive[node, : last + 1] + stage == labels.depart[node, last]
        for first in np.flatnonzero(begun & (stage < np.inf)).tolist():
            part, service = Part(device, first, last), float(stage[first])
            arrived = labels.arrive[node, first]
            if first == 0 and chains.begins[node]:
                yield service, None, part
            for previous in chains.before[node]:
                other = int(chains.device[previous])
                if labels.depart[previous, first] + labels.crossing[other, device, first] == arrived:
                    yield max(service, float(labels.hop[other, device, first])), (previous, first), part
