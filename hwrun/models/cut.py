"""Cutting: a model traced once as a graph, and stages made from contiguous intervals of it.

A block is an interval of the graph's nodes. A cut between two blocks has to carry every value that is defined
before it and used after it, so the live values of a cut are the inputs of the stage behind it and the outputs
of the stage before it, in the order of their definition; behind the last block, in the order in which the model
returns them. What every stage can make again is not carried: parameters and buffers that the graph reads by name,
tensors made from those alone, and numbers computed from the batch size, which a stage reads off what it receives.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from hwrun.errors import BadUsageError, HwrunError
from hwrun.models.catalogue import BlockEntry, catalogue_entry
from hwrun.models.cut_rule import TracedBlock, derive_blocks, remade
from hwrun.models.graph_values import CarriedTensor
from hwrun.models.state_dict import named_tensors
from hwrun.models.tracing import Traced, batch_size, device_of


class _BlockTracer(fx.Tracer):
    """Keeps the catalogue's block-level modules whole; everything around them becomes nodes."""

    def __init__(self, whole: frozenset[str]) -> None:
        super().__init__()
        self._whole = whole

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self._whole or super().is_leaf_module(m, module_qualified_name)


class BlockChain:
    """A traced model as a chain of blocks that can be cut between any two of them.

    Parameters
    ----------
    module : the model, in evaluation mode. Stages share its tensors.
    graph : its traced graph.
    blocks : cover the graph's body (what is neither input nor output) in order, without gaps.
    remade : nodes that a stage makes again instead of receiving them; default the tensors read by name.
    carried : what is known of the tensors that cross cuts, so that a stage can tell the batch size from one.
    how : what traced it.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        graph: fx.Graph,
        blocks: Sequence[TracedBlock],
        *,
        remade: Collection[fx.Node] | None = None,
        carried: Mapping[fx.Node, CarriedTensor] | None = None,
        how: str = "torch.fx symbolic trace",
    ) -> None:
        self.module = module
        self.how = how
        self._remade = frozenset(node for node in graph.nodes if node.op == "get_attr") if remade is None else remade
        self._carried = carried or {}
        self.names: tuple[str, ...] = tuple(block.name for block in blocks)
        self._blocks = tuple(blocks)
        self._inputs = tuple(node for node in graph.nodes if node.op == "placeholder")
        self._body = tuple(node for node in graph.nodes if node.op not in ("placeholder", "output"))
        self._output = graph.output_node()
        self._bounds = (0, *(block.last_node for block in blocks))
        if [block.first_node for block in blocks] != list(self._bounds[:-1]) or self._bounds[-1] != len(self._body):
            raise HwrunError(
                f"blocks: got bounds {self._bounds}, expected to cover all {len(self._body)} nodes in order"
            )

    @classmethod
    def of(cls, name: str, module: torch.nn.Module) -> BlockChain:
        """The chain of a catalogue model.

        Raises
        ------
        HwrunError : the traced graph is not what the catalogue lists, as with an untried torchvision.
        """
        entries = catalogue_entry(name).blocks
        whole = frozenset(call for entry in entries for call in entry.calls)
        graph = _BlockTracer(whole).trace(module)
        return cls(module, graph, _match(name, graph, entries))

    @classmethod
    def derived(cls, traced: Traced, max_blocks: int | None = None) -> BlockChain:
        """The chain of any traced model, its blocks found by the rule of hwrun/models/cut_rule.py."""
        carried = {node: seen.carried for node, seen in traced.seen.items() if seen.carried is not None}
        blocks = derive_blocks(traced, max_blocks)
        return cls(traced.module, traced.graph, blocks, remade=remade(traced), carried=carried, how=traced.how)

    def __len__(self) -> int:
        return len(self._blocks)

    def carried(self, cut: int) -> tuple[CarriedTensor, ...]:
        """What crosses that cut of a derived chain, tensor by tensor."""
        self._check_cuts(cut, cut)
        return tuple(self._carried[node] for node in self._live(cut))

    def returned(self, result: Any) -> tuple[torch.Tensor, ...]:
        """The tensors in what the unsplit model returned, as the last stage returns them.

        Raises
        ------
        HwrunError : `result` is not built like what was traced.
        """
        nodes = tree_leaves(self._output.args[0])
        leaves = tree_leaves(result)
        tensors = {node: leaf for node, leaf in zip(nodes, leaves, strict=False) if isinstance(node, fx.Node)}
        if len(nodes) != len(leaves) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
            raise HwrunError(
                f"output: the model returned {len(leaves)} values of types"
                f" {', '.join(type(leaf).__name__ for leaf in leaves)}, expected {len(nodes)} as when it was traced"
            )
        return tuple(tensors[node] for node in self._output.all_input_nodes)

    def stage(self, first: int, last: int) -> torch.nn.Module:
        """Blocks [first, last) as one module: forward(*live tensors at first) -> tuple of live tensors at last.

        An empty stage (first == last) returns what it is given. The keys of a stage's state dict are the whole
        model's. Like the unsplit model between its blocks, a stage that starts with an in-place operation
        overwrites its inputs: give it a copy where they are needed again.

        Raises
        ------
        BadUsageError : not 0 ≤ first ≤ last ≤ number of blocks.
        """
        self._check_cuts(first, last)
        graph = fx.Graph()
        copies = {node: graph.placeholder(node.name) for node in self._live(first)}
        received = next(((node, copies[node]) for node in copies if node in self._carried), None)

        def copied(node: fx.Node) -> fx.Node:
            if node not in copies:  # made again here, wherever it was made first
                if node.target in (batch_size, device_of) and received is not None:
                    batch = self._carried[received[0]].batch
                    arguments = (batch.dimension, batch.places) if node.target is batch_size else ()
                    copies[node] = graph.call_function(node.target, (received[1], *arguments))
                else:
                    copies[node] = graph.node_copy(node, copied)
            return copies[node]

        for node in self._body[self._bounds[first] : self._bounds[last]]:
            if node not in self._remade:
                copies[node] = graph.node_copy(node, copied)
        graph.output(tuple(copied(node) for node in self._live(last)))
        stage = fx.GraphModule(self.module, graph, class_name="Stage")
        for path in (path for block in self._blocks[first:last] for path in block.idle):
            stage.add_submodule(path, self.module.get_submodule(path))
        return stage.eval()

    def block_tensors(self, index: int) -> dict[str, torch.Tensor]:
        """Parameters and buffers (persistent or not) of one block, by fully-qualified name."""
        if not 0 <= index < len(self):
            raise BadUsageError(f"block: got {index}, expected 0 to {len(self) - 1}")
        return named_tensors(self.stage(index, index + 1))

    @functools.cached_property
    def _order(self) -> dict[fx.Node, int]:
        """Position of each node in the body; −1 for inputs, one past the end for the output."""
        return {
            **dict.fromkeys(self._inputs, -1),
            **{node: position for position, node in enumerate(self._body)},
            self._output: len(self._body),
        }

    def _live(self, cut: int) -> tuple[fx.Node, ...]:
        bound = self._bounds[cut]
        if bound == len(self._body):
            return tuple(self._output.all_input_nodes)
        defined = (*self._inputs, *(node for node in self._body[:bound] if node not in self._remade))
        return tuple(
            node
            for node in defined
            if any(self._order[user] >= bound for user in node.users if user not in self._remade)
        )

    def _check_cuts(self, first: int, last: int) -> None:
        if not 0 <= first <= last <= len(self):
            raise BadUsageError(f"stage: got [{first}:{last}], expected 0 ≤ first ≤ last ≤ {len(self)}")


def _match(name: str, graph: fx.Graph, entries: Sequence[BlockEntry]) -> list[TracedBlock]:
    """Lay the catalogue's blocks over the graph's body, call by call."""
    called = [_call_name(node) for node in graph.nodes if node.op not in ("placeholder", "output")]
    expected = [call for entry in entries for call in entry.calls]
    if called != expected:
        position = next(
            (i for i, pair in enumerate(zip(called, expected, strict=False)) if pair[0] != pair[1]),
            min(len(called), len(expected)),
        )
        got = called[position] if position < len(called) else "the end"
        wanted = expected[position] if position < len(expected) else "the end"
        raise HwrunError(
            f"{name}: call {position} of the traced graph is {got}, expected {wanted};"
            " the installed torchvision builds it differently from what hwrun/models/catalogue.py lists"
        )
    blocks = []
    position = 0
    for entry in entries:
        blocks.append(TracedBlock(entry.name, position, position + len(entry.calls), entry.idle))
        position += len(entry.calls)
    return blocks


def _call_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__
