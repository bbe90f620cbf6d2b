"""A cell of a sweep before it is measured: the plan, where its stages run, and the links asked of the hops. Pure."""

from __future__ import annotations

import itertools
import string
from dataclasses import dataclass

import msgspec

from hwrun.errors import BadUsageError
from hwrun.records import BackendName, Combination
from paretosim.link import Link
from paretosim.plan import Plan, Stage

UNSHAPED = "unshaped"  # what a link that nothing sets goes by


@dataclass(frozen=True)
class Crossing:
    """A path that batches take from one host to another, and the link asked of it (None unshaped)."""

    start: str
    end: str
    link: Link | None


class PlannedCell(Combination, frozen=True, kw_only=True):
    """A combination to measure. `hosts` is where each stage of the plan runs; `links` as `Cell.links_asked`."""

    plan: Plan
    links: tuple[Link | None, ...]

    @property
    def cell_id(self) -> str:
        """The same as that of the record it becomes."""
        return self._id(self.plan, self.links or (None,))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages that take part: with the sink at the first device, trailing empty ones are skipped."""
        stages = list(self.plan.stages)
        while self.sink == "first" and len(stages) > 1 and stages[-1].first == stages[-1].last:
            stages.pop()
        return tuple(stages)

    @property
    def stage_hosts(self) -> tuple[str, ...]:
        """Hosts of the stages that take part."""
        return self.hosts[: len(self.stages)]

    @property
    def sink_host(self) -> str:
        """Where results are wanted: the first or the last device's host."""
        return self.hosts[0 if self.sink == "first" else -1]

    @property
    def way_back(self) -> Link | None:
        """The link between the sink and the chain's other end, seen from the first host; None where it is unshaped."""
        if len(self.links) >= len(self.plan.stages):
            return self.links[len(self.plan.stages) - 1]
        return self.links[0] if len(self.plan.stages) == 2 else None

    @property
    def backend(self) -> BackendName:
        """What carries batches, checked to be one that there is."""
        found: BackendName = msgspec.convert(self.plan.backend, BackendName)
        return found

    @property
    def is_shaped(self) -> bool:
        """Whether any hop is."""
        return any(link is not None for link in self.links)

    @property
    def hops(self) -> tuple[Crossing, ...]:
        """From stage to stage of the whole plan, within a host too: a condition that all cuts of a chain share."""
        ends = itertools.pairwise(self.hosts)
        return tuple(Crossing(a, b, link) for (a, b), link in zip(ends, self.links, strict=False))

    def crossings(self) -> tuple[Crossing, ...]:
        """Paths between hosts that a batch takes, in order: its input's, from stage to stage, its result's."""
        hosts = self.stage_hosts
        found = [
            Crossing(a, b, link) for a, b, link in zip(hosts, hosts[1:], self.links, strict=False) if a != b
        ]  # fmt: skip
        back = None if self.way_back is None else self.way_back.reverse()
        if self.source == "sink" and self.sink_host != hosts[0]:
            found.insert(0, Crossing(self.sink_host, hosts[0], back))
        if hosts[-1] != self.sink_host:
            # A chain that was cut short by trailing empty stages returns over its last hop's own path.
            direct = self.links[len(hosts) - 2] if len(self.hosts) > len(hosts) > 1 else None
            found.append(Crossing(hosts[-1], self.sink_host, direct.reverse() if direct is not None else back))
        return tuple(found)

    def pair_links(self) -> dict[tuple[str, str], Link]:
        """The link of each shaped pair of hosts, seen from the first of the pair.

        Of hops to trailing stages that take no part too: they are probed as all others are.

        Raises
        ------
        BadUsageError : the two directions of one pair are asked to be of different links.
        """
        found: dict[tuple[str, str], Link] = {}
        for crossing in (*self.hops, *self.crossings()):
            if crossing.link is None or crossing.start == crossing.end:
                continue
            there, back = (crossing.start, crossing.end), (crossing.end, crossing.start)
            known = found.get(there) or (found[back].reverse() if back in found else None)
            if known is not None and _shape(known) != _shape(crossing.link):
                raise BadUsageError(
                    f"plan {self.plan}: {crossing.start} to {crossing.end} is crossed in both directions, and link"
                    f" {self.link_name} asks for two different links between them; use one that is the same both ways"
                )
            if known is None:
                found[there] = crossing.link
        return found

    def __str__(self) -> str:
        parts = [str(self.plan), str(self.mode), self.link_name]
        if self.hosts != default_hosts(len(self.hosts)):
            parts.append(f"on {','.join(self.hosts)}")
        parts += [self.workers] if self.workers != "overlapped" else []
        parts += [self.tcp_state] if self.tcp_state != "warm" else []
        return f"{' '.join(parts)} #{self.repeat}"


def _shape(link: Link) -> Link:
    """The link without what it is called."""
    return msgspec.structs.replace(link, name="", title="", source="")


def default_hosts(count: int) -> tuple[str, ...]:
    """Names of the local testbed's hosts: A, B, C …

    >>> default_hosts(3)
    ('A', 'B', 'C')
    """
    return tuple(string.ascii_uppercase[:count])
