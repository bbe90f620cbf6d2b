"""What every node of a traced graph yields, found by running it on tensors without data at several batch sizes.

A cut can carry a tensor whose size is proportional to the batch and whose elements fill their memory. Everything
else has to stay on one side of it, or be had again on the other: numbers read from shapes are the same at every
batch size, or grow with it in equal steps, and are recomputed; tensors made from weights alone are recomputed too.
Numbers that follow the batch in no such way, tensors of a fixed size that depend on the input, and values that
are neither are what no cut can carry.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hwrun.errors import HwrunError
from hwrun.wire.frames import MAX_DIMENSIONS
from hwrun.wire.tensors import memory_order
from paretosim.block import DTYPE_BYTES, TensorShape

# Two of them tell what follows the batch; the third, how.
BATCHES = (2, 3, 5)


@dataclass(frozen=True)
class BatchDimension:
    """Which dimension holds the batch, and how many places of it one sample takes."""

    dimension: int
    places: int


@dataclass(frozen=True)
class CarriedTensor:
    """A tensor that can cross a cut: one sample of it, and where its batch is."""

    sample: TensorShape
    batch: BatchDimension


@dataclass(frozen=True)
class Seen:
    """What one node yielded: its value at each of `BATCHES`.

    `storages` are identities of the memory it refers to at the first of them; `multiply_adds` are per sample;
    `fixed` says that it follows from weights alone, so any stage can make it again.
    """

    values: tuple[Any, ...]
    carried: CarriedTensor | None
    storages: frozenset[int]
    multiply_adds: int
    fixed: bool

    @property
    def is_tensor(self) -> bool:
        """Whether it is one tensor."""
        return isinstance(self.values[0], torch.Tensor)

    @property
    def holds_tensors(self) -> bool:
        """Whether it is a tensor or a collection with tensors in it."""
        return any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(self.values[0]))


def batch_dimension(shapes: Sequence[Sequence[int]], batches: Sequence[int]) -> BatchDimension | None:
    """The one dimension that is proportional to the batch, the others being fixed; None where there is none.

    >>> batch_dimension([(197, 2, 768), (197, 3, 768)], (2, 3))
    BatchDimension(dimension=1, places=1)
    >>> batch_dimension([(2, 2), (3, 3)], (2, 3)) is None
    True
    """
    if len({len(shape) for shape in shapes}) != 1:
        return None
    moving = [index for index, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    if len(moving) != 1:
        return None
    places, rest = divmod(shapes[0][moving[0]], batches[0])
    if rest or any(shape[moving[0]] != places * batch for shape, batch in zip(shapes, batches, strict=True)):
        return None
    return BatchDimension(moving[0], places)


def sample_shape(shape: Sequence[int], batch: BatchDimension) -> tuple[int, ...]:
    """The shape of one sample of a tensor of that shape."""
    own = (batch.places,) if batch.places > 1 else ()
    return (*shape[: batch.dimension], *own, *shape[batch.dimension + 1 :])


def see(
    module: torch.nn.Module, graph: fx.Graph, input_shape: Sequence[int], dtype: torch.dtype
) -> dict[fx.Node, Seen]:
    """What each node yields, for an input of that shape per sample.

    Raises
    ------
    HwrunError : an operation needs the data themselves, or changes the model's weights.
    """
    weights = [*module.parameters(), *module.buffers()]
    device = weights[0].device if weights else torch.device("cpu")
    runs = []
    with without_data() as mode, torch.no_grad():
        for batch in BATCHES:
            run = _Run(module, graph, mode)
            # Counting takes most of the time, and one run tells it.
            with run.counter if batch == BATCHES[0] else contextlib.nullcontext():
                run.run(torch.empty(batch, *input_shape, dtype=dtype, device=device))
            runs.append(run)
        return {node: _seen(node, runs) for node in graph.nodes if node.op != "output"}


@contextlib.contextmanager
def without_data() -> Iterator[FakeTensorMode]:
    """Operations only work out shapes; attention is taken apart, so that its products are counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Run(fx.Interpreter):
    """One run that keeps every value, counts what each node multiplies, and notices who changes fixed tensors."""

    def __init__(self, module: torch.nn.Module, graph: fx.Graph, mode: FakeTensorMode) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.extra_traceback = False  # a node's own message says where it is
        self.counter = FlopCounterMode(display=False)
        self.flops: dict[fx.Node, int] = {}
        self._flops_before = 0
        self.fixed: dict[fx.Node, int] = {}
        self._mode = mode

    def run_node(self, n: fx.Node) -> Any:
        try:
            value = super().run_node(n)
        except Exception as error:  # whatever the model's own code raises is told with the place in it
            raise HwrunError(
                f"{place(n)} cannot be followed without data: {_first_line(error)}; expected shapes that depend on the"
                " input's shape alone. Move what depends on values out of the model, or cut a part of it"
            ) from error
        total = self.counter.get_total_flops()
        self.flops[n], self._flops_before = total - self._flops_before, total
        for node, version in list(self.fixed.items()):
            if _version(self.env[node]) == version:
                continue
            if node.op == "get_attr":
                raise HwrunError(
                    f"{place(n)} changes {node.target} while the model runs; expected weights that stay the same"
                )
            del self.fixed[node]  # changed in place: making it again would lose the change
        # No inputs at all: a tensor read by name, or made of nothing, such as zeros.
        if n.op != "placeholder" and all(node in self.fixed for node in n.all_input_nodes):
            self.fixed[n] = _version(value)
        return value

    def fetch_attr(self, target: str) -> Any:
        value = super().fetch_attr(target)
        # Converted here, where the same stand-in is found each time: an operation would change one of its own.
        return self._mode.from_tensor(value) if isinstance(value, torch.Tensor) else value


def _version(value: Any) -> int:
    return sum(leaf._version for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _seen(node: fx.Node, runs: Sequence[_Run]) -> Seen:
    values = tuple(run.env[node] for run in runs)
    tensors = [leaf for leaf in tree_leaves(values[0]) if isinstance(leaf, torch.Tensor)]
    return Seen(
        values=values,
        carried=_carried(values),
        storages=frozenset(tensor.untyped_storage()._cdata for tensor in tensors),
        # The counter takes a multiply-add for two.
        multiply_adds=runs[0].flops[node] // (2 * BATCHES[0]),
        fixed=node in runs[0].fixed,
    )


def _carried(values: Sequence[Any]) -> CarriedTensor | None:
    if not all(isinstance(value, torch.Tensor) for value in values):
        return None
    batch = batch_dimension([value.shape for value in values], BATCHES)
    dtype = str(values[0].dtype).removeprefix("torch.")
    if batch is None or dtype not in DTYPE_BYTES or values[0].dim() > MAX_DIMENSIONS:
        return None
    shape = sample_shape(values[0].shape, batch)
    if 0 in shape or any(memory_order(value) is None for value in values):
        return None
    return CarriedTensor(TensorShape(shape=shape, dtype=dtype), batch)


def place(node: fx.Node) -> str:
    """Where in the model a node comes from, as a message says it."""
    what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    scope = scope_of(node)
    return f"operation {what}{f' in {scope}' if scope and scope != what else ''}"


def scope_of(node: fx.Node) -> str:
    """Path of the module whose forward has the node, or of the module that it calls; empty for the whole model."""
    if node.op == "call_module":
        return str(node.target)
    return str(node.meta.get("scope", ""))


def _first_line(error: BaseException) -> str:
    text = str(error.__cause__ or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
