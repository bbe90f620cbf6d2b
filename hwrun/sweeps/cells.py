"""Which cells a sweep has, and in which order. Pure."""

from __future__ import annotations

import hashlib
import itertools
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hwrun.errors import BadUsageError
from hwrun.planned_cell import UNSHAPED, PlannedCell
from hwrun.records import Sink, Source, TcpState, WorkerKind
from paretosim.errors import UnknownNameError
from paretosim.link import HEADER_BYTES_ETHERNET, HEADER_BYTES_SHAPED, Link, parse_link
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore, nearest

# What a rate and a delay are set over: the testbed's own path, whose delay is nothing beside any that is asked for.
_BARE = Link(
    schema_version=1, name="veth", rate_bps=1e10, one_way_delay_s=0.0, return_rate_bps=1e10, return_delay_s=0.0
)


def parse_splits(text: str, blocks: int) -> tuple[int, ...]:
    """Splits from `all` (0 … N), `interior` (1 … N−1) or numbers and ranges such as `14,18-21`."""
    if text == "all":
        return tuple(range(blocks + 1))
    if text == "interior":
        return tuple(range(1, blocks))
    splits: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
            raise BadUsageError(f"--splits: got {text!r}, expected all, interior, or numbers such as 14,18-21")
        splits.extend(range(int(first), int(last or first) + 1))
    if over := [split for split in splits if split > blocks]:
        raise BadUsageError(f"--splits: got {over[0]}, expected 0 to {blocks}, the model's number of blocks")
    return tuple(dict.fromkeys(splits))


def parse_asked_link(text: str, store: ProfileStore) -> tuple[str, Link | None]:
    """Name and value of the link written as `unshaped`, a preset's name, or `RATE,DELAY` and what `parse_link` reads.

    The testbed counts Ethernet, IP and TCP headers against the rate, and not what is on an Ethernet's wire beside
    frames, so that is what the link then says; a preset with headers of its own (IPv6's) keeps them.
    """
    if text == UNSHAPED:
        return text, None
    if "," in text:
        link = parse_link(text, _BARE)
    else:
        try:
            link = store.link(text)
        except UnknownNameError as error:
            known = (UNSHAPED, *store.names("links"))
            raise BadUsageError(
                f"--link: got {text!r}, expected RATE,DELAY such as 5mbit,200ms, or one of"
                f" {', '.join(known)}{nearest(text, known)}"
            ) from error
    if link.header_bytes == HEADER_BYTES_ETHERNET:
        link = msgspec.structs.replace(link, header_bytes=HEADER_BYTES_SHAPED)
    return link.name, link


@dataclass(frozen=True)
class AskedLinks:
    """Links as asked: one for every hop, or one each. `links` are in the order of `Cell.links_asked`."""

    name: str
    links: tuple[Link | None, ...]

    def of(self, plan: Plan, hosts: Sequence[str], source: Source, sink: Sink) -> tuple[Link | None, ...]:
        """The link of every hop of the plan, and of its way back where it has one of its own.

        Raises
        ------
        BadUsageError : another number of links than hops, or a shaped link within a host.
        """
        hops = len(plan.stages) - 1
        returns = hops > 1 and hosts[0] != hosts[-1] and (source == "sink" or sink == "first")
        if len(self.links) == 1:
            within = [a == b for a, b in itertools.pairwise(hosts)]
            return tuple(None if same else self.links[0] for same in (*within, *([False] if returns else [])))
        if len(self.links) != hops + returns:
            way_back = f" and one back between {hosts[-1]} and {hosts[0]}" if returns else ""
            raise BadUsageError(
                f"--link: {self.name} is of {len(self.links)} hops, expected {hops} of plan {plan}{way_back}, or one"
                " link for every hop"
            )
        for a, b, link in zip(hosts, hosts[1:], self.links, strict=False):
            if a == b and link is not None:
                raise BadUsageError(f"--link: {self.name} shapes a hop within host {a}; write {UNSHAPED} for it")
        return self.links


def parse_asked_links(text: str, store: ProfileStore) -> AskedLinks:
    """One link for every hop, or one a hop joined by `+`, such as `5mbit,20ms+unshaped`."""
    named = [parse_asked_link(part, store) for part in text.split("+")]
    return AskedLinks("+".join(name for name, _ in named), tuple(link for _, link in named))


def plan_cells(
    *,
    plans: Sequence[Plan],
    links: Sequence[AskedLinks],
    modes: Sequence[Mode],
    source: Source,
    sink: Sink,
    repeats: int,
    seed: int,
    hosts: Sequence[str] | None = None,
    known_hosts: Sequence[str] = string.ascii_uppercase,
    workers: Sequence[WorkerKind] = ("overlapped",),
    backends: Sequence[str] = ("tcp",),
    tcp_states: Sequence[TcpState] = ("warm",),
) -> tuple[PlannedCell, ...]:
    """Every combination once a repeat, in blocks of random order.

    Repeats come one after the other. In each the models are in a random order, in a model its plans are, and what is
    measured of one plan (links, modes, backends, kinds of workers, TCP states) is in a random order too. Links and
    backends are compared within minutes; splits, which a front is made of, within the time of one model, each in a
    place of its own every repeat: drift of the machine meets every split alike. A model's weights and a stage's
    activation are made once a block instead of once a cell, and a sweep that is cut short has whole repeats, and whole
    models of the one that was under way.

    Parameters
    ----------
    plans : their windows are set by the mode, and their backends to each of `backends`.
    hosts : of each stage, in every plan; by default a host of its own for each, the first of `known_hosts`.

    Raises
    ------
    BadUsageError : `hosts` or links do not fit a plan.
    """

    def measured_of(plan: Plan, repeat: int) -> list[PlannedCell]:
        own = hosts_of(plan, hosts, known_hosts)
        placed = [
            (mode, msgspec.structs.replace(plan, window=mode.window, backend=backend))
            for mode in modes
            for backend in backends
        ]
        return [
            PlannedCell(
                plan=placed_plan,
                mode=mode,
                link_name=asked.name,
                links=asked.of(placed_plan, own, source, sink),
                hosts=own,
                source=source,
                sink=sink,
                workers=kind,
                tcp_state=tcp_state,
                repeat=repeat,
            )
            for mode, placed_plan in placed
            for asked in links
            for kind in workers
            for tcp_state in tcp_states
        ]

    order = random.Random(seed)
    models = list(dict.fromkeys(plan.model for plan in plans))
    cells: list[PlannedCell] = []
    for repeat in range(repeats):
        for model in order.sample(models, len(models)):
            of_model = [plan for plan in plans if plan.model == model]
            for plan in order.sample(of_model, len(of_model)):
                of_plan = measured_of(plan, repeat)
                cells += order.sample(of_plan, len(of_plan))
    for cell in cells:
        cell.pair_links()  # raises where a pair of hosts would need two different links
    return tuple(cells)


def hosts_of(plan: Plan, hosts: Sequence[str] | None, known: Sequence[str] = string.ascii_uppercase) -> tuple[str, ...]:
    """The host of each stage of a plan: as given, or a host of its own for each, the first of those known.

    Raises
    ------
    BadUsageError : another number of hosts than stages, fewer hosts than that, or one host for two devices.
    """
    if hosts is None:
        if len(known) < len(plan.stages):
            raise BadUsageError(
                f"hosts: there are {len(known)} ({','.join(known)}), expected {len(plan.stages)}, one for each stage of"
                f" plan {plan}; name one twice with --hosts"
            )
        return tuple(known[: len(plan.stages)])
    if len(hosts) != len(plan.stages):
        raise BadUsageError(
            f"--hosts: got {len(hosts)} hosts ({','.join(hosts)}), expected {len(plan.stages)}, one for each stage"
            f" of plan {plan}"
        )
    devices: dict[str, str] = {}
    for host, stage in zip(hosts, plan.stages, strict=True):
        if devices.setdefault(host, stage.device) != stage.device:
            raise BadUsageError(f"--hosts: {host} is to be {devices[host]} and {stage.device} in plan {plan}")
    return tuple(hosts)


def cells_identity(cells: Sequence[PlannedCell]) -> str:
    """A hash of which cells a sweep has, in their order."""
    return hashlib.sha256(" ".join(cell.cell_id for cell in cells).encode()).hexdigest()[:16]
