"""Which devices may follow which: all chains of devices that a placement can use, as one graph.

In the given order a chain is a subsequence of the devices; in any order, an arrangement of a subset, so a node then
says which devices are used and which is the last. Devices that can be exchanged without changing anything would
count every chain several times; of such, only the earliest free one is ever taken (docs/model.md, "k devices").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paretosim.errors import BadInputError

# In any order the nodes are 2^k·k/2 for k different devices: 12 of them stay below this, 13 do not.
MAX_NODES = 30_000


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a chain of `devices` devices may look like.

    `alike[d]` is the first device that d can be exchanged with (d itself where there is none). Of the devices that are
    `exclusive` a chain has one at most. `start` and `end` are where every chain has to begin and end, None for
    anywhere. `remember_start` keeps chains apart by their first device, where what comes at the end depends on it.
    """

    any_order: bool
    usable: NDArray[np.bool_]
    alike: tuple[int, ...]
    exclusive: NDArray[np.bool_]
    longest: int
    start: int | None
    end: int | None
    remember_start: bool

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self.alike)


@dataclass(frozen=True)
class Group:
    """Consecutive nodes (`first` to `last`, exclusive) of one device and one kind of stage, and their predecessors.

    `before` is (nodes, most predecessors) node numbers, filled up with the number of nodes in the graph.
    """

    device: int
    kind: int
    first: int
    last: int
    before: NDArray[np.int64]


@dataclass(frozen=True)
class Chains:
    """Nodes in an order in which every one comes after its predecessors; one array entry or row a node.

    `kind` says what a stage there takes: it is the device, unless stages are told apart further. `start_device` is the
    first device of a node's chains, as far as `Rules` fix or remember it, else the node's own.
    """

    device: NDArray[np.int64]
    kind: NDArray[np.int64]
    start_device: NDArray[np.int64]
    begins: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    before: tuple[tuple[int, ...], ...]
    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return len(self.device)


@dataclass(frozen=True)
class _Node:
    start: int  # −1 where chains are not kept apart by it
    used: int  # bits of the devices, 0 in the given order
    stages: int  # 0 in the given order where every chain is short enough anyway
    exclusive: bool  # whether there is an exclusive device among them
    device: int


def chains(rules: Rules) -> Chains:
    """The graph of all chains that `rules` allow.

    Raises
    ------
    BadInputError : so many devices in any order that the graph would not be handled in reasonable time.
    """
    pending: dict[tuple[int, int], dict[_Node, list[int]]] = {}
    for device in range(rules.devices):
        if _may_begin(rules, device):
            node = _first(rules, device)
            pending.setdefault((0, device), {})[node] = []
    nodes: list[_Node] = []
    before: list[tuple[int, ...]] = []
    groups: list[Group] = []
    for depth in range(rules.devices if rules.any_order else 1):
        for device in range(rules.devices):
            bucket = pending.pop((depth, device), {})
            if not bucket:
                continue
            first = len(nodes)
            for node, predecessors in bucket.items():
                number = len(nodes)
                nodes.append(node)
                before.append(tuple(predecessors))
                for successor in _successors(rules, node):
                    where = (depth + 1 if rules.any_order else 0, successor.device)
                    pending.setdefault(where, {}).setdefault(successor, []).append(number)
            groups.append(Group(device, device, first, len(nodes), np.empty((0, 0), dtype=np.int64)))
            if len(nodes) > MAX_NODES:
                raise BadInputError(
                    f"any order: got {rules.devices} devices, which can be arranged in too many ways (more than"
                    f" {MAX_NODES} sets with a last device); expected fewer devices, or a lower limit on how many are"
                    " used at once"
                )
    devices = np.array([node.device for node in nodes], dtype=np.int64)
    return Chains(
        device=devices,
        kind=devices,
        start_device=np.array([_start_device(rules, node) for node in nodes], dtype=np.int64),
        begins=np.array([_begins(rules, node) for node in nodes], dtype=np.bool_),
        ends=np.array([rules.end is None or node.device == rules.end for node in nodes], dtype=np.bool_),
        before=tuple(before),
        groups=tuple(
            dataclasses.replace(group, before=padded(before[group.first : group.last], len(nodes))) for group in groups
        ),
    )


def _may_begin(rules: Rules, device: int) -> bool:
    if rules.start is not None:
        return device == rules.start
    return bool(rules.usable[device]) and rules.alike[device] == device


def _first(rules: Rules, device: int) -> _Node:
    """The node of the chain of this device alone."""
    used = 1 << device if rules.any_order else 0
    start = device if rules.remember_start else -1
    return _Node(start, used, _count(rules, 0), bool(rules.exclusive[device]), device)


def _begins(rules: Rules, node: _Node) -> bool:
    """Whether a chain may consist of this node alone."""
    return _may_begin(rules, node.device) and node == _first(rules, node.device)


def _start_device(rules: Rules, node: _Node) -> int:
    if rules.start is not None:
        return rules.start
    return node.start if rules.remember_start else node.device


def _count(rules: Rules, so_far: int) -> int:
    return 0 if not rules.any_order and rules.longest >= rules.devices else so_far + 1


def _successors(rules: Rules, node: _Node) -> list[_Node]:
    if node.device == rules.end or node.stages >= rules.longest:
        return []
    found = []
    for device in range(0 if rules.any_order else node.device + 1, rules.devices):
        exclusive = bool(rules.exclusive[device])
        if node.used >> device & 1 or device == rules.start or (exclusive and node.exclusive):
            continue
        if not (rules.usable[device] or device == rules.end) or _is_repetition(rules, node, device):
            continue
        used = node.used | 1 << device if rules.any_order else 0
        found.append(_Node(node.start, used, _count(rules, node.stages), exclusive or node.exclusive, device))
    return found


def _is_repetition(rules: Rules, node: _Node, device: int) -> bool:
    """Whether an earlier device that is alike is free, so that its chains are the same ones."""
    since = 0 if rules.any_order else node.device + 1
    return any(
        rules.alike[other] == rules.alike[device] and not node.used >> other & 1 for other in range(since, device)
    )


def padded(rows: Sequence[Sequence[int]], filling: int) -> NDArray[np.int64]:
    """The rows as one table, filled up."""
    width = max(map(len, rows), default=0)
    table = np.full((len(rows), width), filling, dtype=np.int64)
    for row, entries in zip(table, rows, strict=True):
        row[: len(entries)] = entries
    return table
