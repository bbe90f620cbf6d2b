"""Which cuts of a traced graph are worth having, and what the blocks between them are called.

Every position between two operations is a cut. What remains of them is decided by what can be carried, what each
would carry and what is computed between them, all of which follow from the model and its input shape alone, so
that every host finds the same blocks:

1. *Possible*: all values live across it are tensors in proportion to the batch that fill their memory, no two of
   them share memory (an operation in place on the one would change the other), and a frame has room for them.
2. *One cut for each operation that works*: an operation works if it multiplies at least a twentieth as much as the
   average operation that multiplies at all. Behind it, up to the next one, the cut with the fewest bytes stays
   (then the fewest tensors, then the last), so that normalisations, activations, pools and the like stay with it
   and a pool is never cut off from what it makes smaller. What comes before the first or after the last of them
   is a block of its own only where that carries less than the input or the output.
3. *No paying for a branch*: a cut of several tensors goes if it carries more than the cuts of one tensor that
   enclose it, where no more than a quarter of the work lies between those (inside a residual block, an inception
   module); and, anywhere, if it carries more than the cuts right before and after it (those of equal bytes in a
   row count as one). A cut of one tensor stays, however much it carries: it may balance the devices.
4. *At most so many blocks*, where asked: one after another the cut with the most bytes goes, of those whose two
   blocks together have no more than two average blocks' work; where there is none, the cut whose two blocks have
   the least.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from hwrun.errors import BadUsageError
from hwrun.models.graph_values import Seen, scope_of
from hwrun.models.tracing import Traced, batch_size, device_of, in_steps
from hwrun.wire.frames import MAX_TENSORS

WORKS_SHARE = 1 / 20
REGION_SHARE = 1 / 4


@dataclass(frozen=True)
class TracedBlock:
    """A block as nodes [first_node, last_node) of the graph's body, and the modules it holds without calling them."""

    name: str
    first_node: int
    last_node: int
    idle: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cut:
    """The cut before node `position` of the body: bytes per sample across it, and in how many tensors."""

    position: int
    bytes: int
    tensors: int


def remade(traced: Traced) -> frozenset[fx.Node]:
    """Nodes that no cut carries because every stage can make them again: from weights, or from the batch size."""
    return frozenset(
        node
        for node in traced.graph.nodes
        if node.target in (batch_size, device_of, in_steps) or (node in traced.seen and traced.seen[node].fixed)
    )


def derive_blocks(traced: Traced, max_blocks: int | None = None) -> list[TracedBlock]:
    """The blocks of a traced model, by the rule above.

    Parameters
    ----------
    max_blocks : coarser, where the rule finds more.

    Raises
    ------
    BadUsageError : `max_blocks` below 1, or the model returns what no stage could send.
    """
    if max_blocks is not None and max_blocks < 1:
        raise BadUsageError(f"max blocks: got {max_blocks}, expected 1 or more")
    body = [node for node in traced.graph.nodes if node.op not in ("placeholder", "output")]
    work = [traced.seen[node].multiply_adds if node in traced.seen else 0 for node in body]
    cuts = _possible(traced, body)
    cuts = _one_for_each_working_operation(cuts, work)
    cuts = _without_costly_branches(cuts, work)
    cuts = _coarser(cuts, work, max_blocks or len(cuts))
    bounds = [cut.position for cut in cuts]
    names = _names([body[first:last] for first, last in itertools.pairwise(bounds)], traced.seen)
    return [
        TracedBlock(name, first, last) for name, (first, last) in zip(names, itertools.pairwise(bounds), strict=True)
    ]


def _possible(traced: Traced, body: Sequence[fx.Node]) -> list[_Cut]:
    """All cuts that can carry what is live across them, the input and the output among them."""
    not_carried = remade(traced)
    order = {node: position for position, node in enumerate(body)}
    output = traced.graph.output_node()
    last_use: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        users = [user for user in node.users if user not in not_carried]
        last_use[node] = max((order.get(user, len(body)) for user in users), default=-1)
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    cuts = []
    for position in range(len(body)):
        defined = (*inputs, *(node for node in body[:position] if node not in not_carried))
        live = [traced.seen[node] for node in defined if last_use[node] >= position]
        if position == 0 or _can_be_carried(live):
            cuts.append(_Cut(position, _bytes(live), len(live)))
    returned = [(node, traced.seen[node]) for node in output.all_input_nodes]
    for node, seen in returned:
        if seen.carried is None:
            raise BadUsageError(
                f"the model returns {_described(node, seen)}; expected tensors in proportion to the batch. Return only"
                " those"
            )
    if not returned:
        raise BadUsageError("the model returns no tensor that follows from its input; expected at least one")
    results = [seen for _, seen in returned]
    return [*cuts, _Cut(len(body), _bytes(results), len(results))]


def _can_be_carried(live: Sequence[Seen]) -> bool:
    storages = [storage for seen in live for storage in seen.storages]
    return (
        0 < len(live) <= MAX_TENSORS
        and all(seen.carried is not None for seen in live)
        and len(set(storages)) == len(storages)
    )


def _bytes(live: Sequence[Seen]) -> int:
    return sum(seen.carried.sample.sample_bytes for seen in live if seen.carried is not None)


def _described(node: fx.Node, seen: Seen) -> str:
    if not seen.is_tensor:
        return f"{node.name}, a {type(seen.values[0]).__name__}"
    shapes = " and ".join(str(tuple(value.shape)) for value in seen.values[:2])
    return f"{node.name}, of shape {shapes} at batches of 2 and 3 ({str(seen.values[0].dtype).removeprefix('torch.')})"


def _one_for_each_working_operation(cuts: Sequence[_Cut], work: Sequence[int]) -> list[_Cut]:
    multiplying = [amount for amount in work if amount]
    threshold = WORKS_SHARE * sum(multiplying) / max(1, len(multiplying))
    working = [position for position, amount in enumerate(work) if amount and amount >= threshold]
    start, end = cuts[0], cuts[-1]
    kept = [start]
    for before, after in zip([-1, *working], [*working, len(work)], strict=True):
        here = [cut for cut in cuts[1:-1] if before < cut.position <= after]
        if not here:
            continue
        best = min(here, key=lambda cut: (cut.bytes, cut.tensors, -cut.position))
        is_first, is_last = before < 0, after == len(work)
        if (is_first and best.bytes >= start.bytes) or (is_last and best.bytes >= end.bytes):
            continue
        kept.append(best)
    return [*kept, end]


def _without_costly_branches(cuts: Sequence[_Cut], work: Sequence[int]) -> list[_Cut]:
    kept = list(cuts)
    narrow = [index for index, cut in enumerate(cuts) if cut.tensors == 1 or index in (0, len(cuts) - 1)]
    for first, last in itertools.pairwise(narrow):
        before, after = cuts[first], cuts[last]
        if sum(work[before.position : after.position]) <= REGION_SHARE * sum(work):
            inside = cuts[first + 1 : last]
            kept = [cut for cut in kept if cut not in inside or cut.bytes <= max(before.bytes, after.bytes)]
    costly = set()
    index = 1
    while index < len(kept) - 1:
        end = index
        while end < len(kept) - 1 and kept[end].bytes == kept[index].bytes:
            end += 1
        if kept[index].bytes > max(kept[index - 1].bytes, kept[end].bytes):
            costly |= {cut for cut in kept[index:end] if cut.tensors > 1}
        index = end
    return [cut for cut in kept if cut not in costly]


def _coarser(cuts: Sequence[_Cut], work: Sequence[int], max_blocks: int) -> list[_Cut]:
    kept = list(cuts)
    while len(kept) - 1 > max_blocks:
        merged = {
            index: sum(work[kept[index - 1].position : kept[index + 1].position]) for index in range(1, len(kept) - 1)
        }
        light = [index for index, amount in merged.items() if amount <= 2 * sum(work) / max_blocks]
        if light:
            gone = max(light, key=lambda index: (kept[index].bytes, -merged[index], index))
        else:
            gone = min(merged, key=lambda index: (merged[index], -kept[index].bytes, -index))
        del kept[gone]
    return kept


def _names(blocks: Sequence[Sequence[fx.Node]], seen: dict[fx.Node, Seen]) -> list[str]:
    """A unique name for each block: the module that holds its working operations and no other block's."""
    paths = [_paths(block, seen) for block in blocks]
    names = []
    for index, own in enumerate(paths):
        others = [path for other, theirs in enumerate(paths) if other != index for path in theirs]
        scope = _common_scope(own)
        names.append(_widest(scope, others) or _span(scope, own, others))
    seen_before: Counter[str] = Counter()
    taken = set(names)
    unique = []
    for name in names:
        seen_before[name] += 1
        number = seen_before[name]
        if number > 1:
            while f"{name}~{number}" in taken:
                number += 1
            name = f"{name}~{number}"
            taken.add(name)
        unique.append(name)
    return unique


def _paths(block: Sequence[fx.Node], seen: dict[fx.Node, Seen]) -> list[str]:
    working = [node for node in block if node in seen and seen[node].multiply_adds] or list(block)
    return [scope_of(node) or node.name for node in working]


def _widest(scope: str, others: Sequence[str]) -> str:
    """The widest module around `scope` that has nothing of another block in it; empty where even `scope` has."""
    levels = scope.split(".") if scope else []
    widths = (".".join(levels[:depth]) for depth in range(1, 1 + len(levels)))
    return next((w for w in widths if not any(p == w or p.startswith(f"{w}.") for p in others)), "")


def _span(scope: str, own: Sequence[str], others: Sequence[str]) -> str:
    """From where to where a block reaches, which has no module to itself."""
    first, last = own[0], own[-1]
    if first == last:
        return first
    if not scope or scope in own:
        return f"{_widest(first, others) or first}..{_widest(last, others) or last}"
    first, last = (path.removeprefix(f"{scope}.").partition(".")[0] for path in (first, last))
    return f"{scope}.{first}" if first == last else f"{scope}.{first}..{last}"


def _common_scope(paths: Sequence[str]) -> str:
    """The innermost module that has all of these in it; empty for the whole model."""
    levels = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
