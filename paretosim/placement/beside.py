"""Stages told apart by the transfers beside them, where those slow computing (docs/model.md, "k devices").

κ·min(c, x) makes what a stage takes depend on the link before it, the one behind it, and at both ends of a chain the
one that closes it. So a node of the graph of chains becomes one for each combination of these, and stages are of as
many kinds. A way through the new graph is a way through the old one, and each of those is told apart in one way only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from paretosim.link import Link
from paretosim.placement.device_chains import Chains, Group, padded

LinkBetween = Callable[[int, int], Link]


class Beside(NamedTuple):
    """A device, and the links that its stage receives over, sends over, and that its host closes the chain by."""

    device: int
    arriving: Link | None = None
    leaving: Link | None = None
    closing: Link | None = None


class _Node(NamedTuple):
    kind: Beside
    closing: Link | None
    plain: int
    before: list[int]


def told_apart(plain: Chains, forward: LinkBetween, back: LinkBetween | None) -> tuple[Chains, tuple[Beside, ...]]:
    """The graph with its nodes told apart, and what kinds of stages they are of.

    Parameters
    ----------
    forward : from the position of one device and that of the next, the link between them.
    back : likewise from the last device of a chain to its first; None where nothing crosses that way.
    """
    device, start = plain.device.tolist(), plain.start_device.tolist()
    behind: list[list[int]] = [[] for _ in device]
    for node, predecessors in enumerate(plain.before):
        for previous in predecessors:
            behind[previous].append(node)
    closings: list[Link | None] = [None]
    if back is not None:
        ends = [node for node in range(len(plain)) if plain.ends[node] and device[node] != start[node]]
        closings += dict.fromkeys(back(device[node], start[node]) for node in ends)

    def leaving(node: int, arriving: Link | None, closing: Link | None) -> list[Link | None]:
        """Over which links a stage may send on; None where the chain may end with it."""
        found: list[Link | None] = []
        if back is None or closing is not None:
            found += dict.fromkeys(forward(device[node], device[other]) for other in behind[node])
        closed = None if arriving is None or back is None else back(device[node], start[node])
        return [*found, None] if plain.ends[node] and closing == closed else found

    nodes: list[_Node] = []
    groups: list[tuple[Beside, int, int]] = []
    waiting: dict[tuple[int, Link, Link | None], list[int]] = {}  # who sends to a node over a link
    for group in plain.groups:
        found: list[_Node] = []
        for node in range(group.first, group.last):
            ways: list[tuple[Link | None, Link | None, list[int]]] = []
            if plain.begins[node]:
                ways += [(None, closing, []) for closing in closings]
            ways += [(over, closing, who) for (to, over, closing), who in waiting.items() if to == node]
            for arriving, closing, before in ways:
                for over in leaving(node, arriving, closing):
                    at_end = arriving is None or over is None
                    kind = Beside(group.device, arriving, over, closing if at_end else None)
                    found.append(_Node(kind, closing, node, before))
        for kind in dict.fromkeys(node.kind for node in found):
            first = len(nodes)
            for one in (node for node in found if node.kind == kind):
                for other in behind[one.plain] if kind.leaving is not None else ():
                    if forward(group.device, device[other]) == kind.leaving:
                        waiting.setdefault((other, kind.leaving, one.closing), []).append(len(nodes))
                nodes.append(one)
            groups.append((kind, first, len(nodes)))
    kinds = tuple(dict.fromkeys(kind for kind, _, _ in groups))
    place = {kind: index for index, kind in enumerate(kinds)}
    origin = np.array([node.plain for node in nodes], dtype=np.int64)
    graph = Chains(
        device=plain.device[origin],
        kind=np.array([place[node.kind] for node in nodes], dtype=np.int64),
        start_device=plain.start_device[origin],
        begins=np.array([node.kind.arriving is None for node in nodes], dtype=np.bool_),
        ends=np.array([node.kind.leaving is None for node in nodes], dtype=np.bool_),
        before=tuple(tuple(node.before) for node in nodes),
        groups=tuple(
            Group(kind.device, place[kind], first, last, padded([n.before for n in nodes[first:last]], len(nodes)))
            for kind, first, last in groups
        ),
    )
    return graph, kinds
