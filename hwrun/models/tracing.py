"""Tracing: from any module to a graph of operations whose numbers are settled.

torch.fx's symbolic trace comes first: it keeps layers whole and operations as the model's code calls them, so a
stage computes with the very kernels of the unsplit model. It fails where code branches on a shape; torch.export
follows those branches for the given input shape and takes layers apart, and is what then remains. Neither can
follow branches on values, which is said with the line.

Both graphs are then written anew. A number that is the same at every batch size becomes a constant, one that
grows with the batch in equal steps is computed from the batch size, which every stage can read off what it
receives; so no cut has to carry a number. Checks of shapes that hold go, and the members of a collection are taken
out of it at once, so that a cut meets tensors and not collections.
"""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from hwrun.errors import BadUsageError, HwrunError
from hwrun.models.graph_values import BATCHES, Seen, scope_of, see

_PREFIX = "network"
_INTERNAL = ("/torch/", "/torchgen/", "/hwrun/models/tracing.py", "/contextlib.py")


@dataclass(frozen=True)
class Traced:
    """A model as a graph: its module (constants of the graph added as buffers), what its nodes yield, and how.

    `seen` holds no nodes that compute numbers from the batch size.
    """

    module: torch.nn.Module
    graph: fx.Graph
    seen: dict[fx.Node, Seen]
    how: str


class _OneInput(torch.nn.Module):
    """Calls a module with one argument, so that its other arguments keep their defaults."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> Any:
        return self.network(x)


def batch_size(tensor: torch.Tensor, dimension: int, places: int) -> int:
    """Samples in a tensor that has `places` of that dimension for each."""
    return tensor.shape[dimension] // places


def device_of(tensor: torch.Tensor) -> torch.device:
    """Where a tensor is."""
    return tensor.device


def in_steps(batch: int, step: int, offset: int) -> int:
    """A number that grows with the batch in equal steps."""
    return batch * step + offset


def trace(module: torch.nn.Module, input_shape: Sequence[int], dtype: torch.dtype) -> Traced:
    """The graph of a module in evaluation mode, for one input of that shape per sample.

    Raises
    ------
    BadUsageError : neither way of tracing can follow it; names the line and what to do.
    """
    attempts: tuple[tuple[str, Callable[[], tuple[torch.nn.Module, fx.Graph]]], ...] = (
        ("torch.fx symbolic trace", lambda: _symbolic(module)),
        ("torch.export", lambda: _exported(module, input_shape, dtype)),
    )
    faults = []
    for how, attempt in attempts:
        try:
            root, graph = attempt()
            owner = _without_prefix(root, graph)
            writer = _Writer(see(owner, graph, input_shape, dtype))
            for node in graph.nodes:
                writer.write(node)
            writer.graph.lint()
            return Traced(owner, writer.graph, writer.seen_anew, how)
        except HwrunError as error:
            faults.append(f"{how}: {error}")
        except Exception as error:  # tracing runs the model's own code, which may raise anything
            faults.append(f"{how}: {_told(error)}")
    raise BadUsageError(
        f"{type(module).__name__} cannot be traced for an input of {list(input_shape)}: {'; '.join(faults)}. Expected"
        " a forward of one tensor that branches on nothing but shapes; take the branch out of it (torch.where,"
        " an argument of the factory), or give a module that starts behind it"
    )


class _InPlaceProxy(fx.Proxy):
    """Keeps `x += y` an operation in place; a plain proxy would make it `x = x + y`, which other names do not see."""


def _in_place(function: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], Any]:
    def apply(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return apply


for _name in ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
    setattr(_InPlaceProxy, f"__i{_name}__", _in_place(getattr(operator, f"i{_name}")))


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlaceProxy(node, self)


def _symbolic(module: torch.nn.Module) -> tuple[torch.nn.Module, fx.Graph]:
    root = _OneInput(module)
    tracer = _Tracer()
    if tracer.is_leaf_module(module, _PREFIX):
        raise HwrunError(f"{type(module).__name__} is a single layer of torch, which stays whole")
    return root, tracer.trace(root)


def _exported(
    module: torch.nn.Module, input_shape: Sequence[int], dtype: torch.dtype
) -> tuple[torch.nn.Module, fx.Graph]:
    tensor = next(iter(module.parameters()), torch.empty(0))
    example = torch.zeros(BATCHES[0], *input_shape, dtype=dtype, device=tensor.device)
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            _OneInput(module), (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
        )
        root = program.module()
    graph = root.graph
    for node in list(graph.nodes):
        if (node.target == "_guards_fn" or node.op == "get_attr") and not node.users:
            graph.erase_node(node)
    return root, graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export logs and prints what it also raises, and warns of its own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                stack.enter_context(redirect(io.StringIO()))
            yield
    finally:
        logging.disable(before)


def _told(error: Exception) -> str:
    """What an exception says, with the last line of the model's own code that led to it."""
    message = str(error).strip().splitlines()
    text = message[0] if message else type(error).__name__
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename.replace("\\", "/") for part in _INTERNAL)
    ]
    if not frames:
        return text
    return f"{frames[-1].filename}, line {frames[-1].lineno}, `{(frames[-1].line or '').strip()}`: {text}"


def _without_prefix(root: torch.nn.Module, graph: fx.Graph) -> torch.nn.Module:
    """Give targets the names they have in the model itself, move the graph's constants there, and note scopes."""
    owner = root.get_submodule(_PREFIX)
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            if node.target.startswith(f"{_PREFIX}."):
                node.target = node.target.removeprefix(f"{_PREFIX}.")
            else:
                constant = _attribute(root, node.target)
                if not isinstance(constant, torch.Tensor):
                    raise HwrunError(f"{node.target}: got a {type(constant).__name__} in the graph, expected tensors")
                node.target = f"traced_{node.target.strip('_').replace('.', '_')}"
                owner.register_buffer(node.target, constant.detach(), persistent=False)
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0] if stack else "")
        node.meta["scope"] = path.removeprefix(_PREFIX).removeprefix(".")
    return owner


def _attribute(root: torch.nn.Module, path: str) -> Any:
    value: Any = root
    for name in path.split("."):
        value = getattr(value, name)
    return value


class _Writer:
    """Writes a graph anew, node by node, with its numbers settled and its collections opened at once."""

    def __init__(self, seen: dict[fx.Node, Seen]) -> None:
        self.graph = fx.Graph()
        self.seen_anew: dict[fx.Node, Seen] = {}
        self._seen = seen
        self._written: dict[fx.Node, Any] = {}
        self._input: fx.Node | None = None
        self._shared: dict[Any, fx.Node] = {}

    def write(self, node: fx.Node) -> None:
        """Write one node, and the members that are taken out of it."""
        if node in self._written:
            return
        if node.op == "placeholder":
            if self._input is not None:
                raise HwrunError(f"input {node.target}: the model takes more than one, expected a single tensor")
            self._written[node] = self._input = self.graph.node_copy(node)
            self.seen_anew[self._input] = self._seen[node]
            return
        if node.op == "output":
            self.graph.output(fx.map_arg(node.args[0], self._argument))
            return
        seen = self._seen[node]
        if node.op != "get_attr" and not seen.holds_tensors:
            with contextlib.suppress(_NotSettledError):
                self._written[node] = self._number(seen.values)
            if node in self._written and (seen.values[0] is not None or not self._looks_at_values(node)):
                return
        copy = self.graph.node_copy(node, self._argument)
        copy.meta["scope"] = scope_of(node)
        self._written.setdefault(node, copy)
        self.seen_anew[copy] = seen
        if seen.holds_tensors and not seen.is_tensor:
            for user in list(node.users):
                if user.target is operator.getitem and isinstance(user.args[1], int):
                    self.write(user)

    def _looks_at_values(self, node: fx.Node) -> bool:
        """Whether anything that the node is given is not settled: then a check may still fail, and stays."""
        left: list[fx.Node] = []
        fx.map_arg(fx.map_arg((node.args, node.kwargs), self._argument), left.append)
        return bool(left)

    def _argument(self, node: fx.Node) -> Any:
        return self._written[node]

    def _number(self, values: Sequence[Any]) -> Any:
        """An argument that yields these values at those batch sizes."""
        first = values[0]
        if isinstance(first, torch.device):
            return self._shared_node(device_of, ())
        if isinstance(first, tuple | list) and type(first) in (tuple, list, torch.Size):
            if len({len(value) for value in values}) != 1:
                raise _NotSettledError
            members = [self._number(member) for member in zip(*values, strict=True)]
            return members if isinstance(first, list) else tuple(members)
        if isinstance(first, slice):
            parts = (self._number([getattr(v, part) for v in values]) for part in ("start", "stop", "step"))
            return slice(*parts)
        if all(type(value) is type(first) and value == first for value in values):
            return first
        if all(type(value) is int for value in values):
            step, rest = divmod(values[1] - values[0], BATCHES[1] - BATCHES[0])
            offset = values[0] - step * BATCHES[0]
            if not rest and all(v == step * batch + offset for v, batch in zip(values, BATCHES, strict=True)):
                batch = self._shared_node(batch_size, (0, 1))
                return batch if (step, offset) == (1, 0) else self._made(in_steps, (batch, step, offset))
        raise _NotSettledError

    def _shared_node(self, function: Any, arguments: tuple[int, ...]) -> fx.Node:
        if function not in self._shared:
            assert self._input is not None  # a graph's inputs come first
            with self.graph.inserting_after(self._input):
                self._shared[function] = self._made(function, (self._input, *arguments))
        return self._shared[function]

    def _made(self, function: Any, arguments: tuple[Any, ...]) -> fx.Node:
        return self.graph.call_function(function, arguments)


class _NotSettledError(Exception):
    """A number that follows the batch in no simple way."""
