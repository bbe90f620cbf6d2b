"""Model profiles: what each block costs and what leaves it, found by tracing and running the cut model.

Sizes and FLOPs do not depend on values, so blocks run with blank weights on blank inputs; a second batch size,
on torch's `meta` device (shapes without data), tells which dimension is the batch's. The peak of a block counts
each storage once, from the operation that makes it until its last reference is gone: the block's inputs,
its outputs and whatever is between. In-place results and views share a storage; scratch memory inside one
operation (im2col, packed weights) is not seen.

A network outside the catalogue runs with its own weights, since its chain is first checked against it.
"""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hwrun.errors import BadUsageError, HwrunError
from hwrun.models.catalogue import build_model, catalogue_entry
from hwrun.models.composition import check_whole, cuts_that_differ
from hwrun.models.cut import BlockChain
from hwrun.models.graph_values import BatchDimension, batch_dimension, sample_shape
from hwrun.models.network import Network
from paretosim.block import Block, Model, TensorShape

FLOPS_CONVENTION = (
    "fvcore FlopCountAnalysis, per sample: a multiply-add counts as one; operations listed in"
    " origin.not_counted count as none"
)
ATTENTION_CONVENTION = "; attention is taken apart and its products count"
Tensors = tuple[torch.Tensor, ...]
# Two different batch sizes tell which dimension is the batch's.
_BATCHES = (2, 3)
_FRONT = BatchDimension(dimension=0, places=1)


def describe_model(name: str) -> Model:
    """The profile of a catalogue model.

    Raises
    ------
    HwrunError : a tensor that crosses a cut has no batch dimension in front.
    """
    entry = catalogue_entry(name)
    chain = BlockChain.of(name, build_model(name, meta=True))
    small: Tensors = (torch.zeros(_BATCHES[0], *entry.input_shape),)
    large: Tensors = (torch.empty(_BATCHES[1], *entry.input_shape, device="meta"),)
    not_counted: set[str] = set()
    blocks = []
    for index, block_name in enumerate(chain.names):
        stage = chain.stage(index, index + 1)
        large, _ = _run(stage, large)
        stage.to_empty(device="cpu")
        inputs, batches = small, [_FRONT for _ in small]
        small, peak_bytes = _run(stage, [tensor.clone() for tensor in inputs])
        outputs = tuple(_sample_shape(pair, f"{name} {block_name}") for pair in zip(small, large, strict=True))
        block, missed = _block(block_name, stage, _one_sample(inputs, batches), outputs, peak_bytes)
        blocks.append(block)
        not_counted |= missed
    return Model(
        schema_version=1,
        name=name,
        classes=entry.classes,
        input=TensorShape(shape=entry.input_shape, dtype="float32"),
        flops_convention=FLOPS_CONVENTION,
        origin={
            "command": f"hwrun trace --model {name}",
            "construction": entry.construction,
            **_origin(not_counted),
        },
        blocks=tuple(blocks),
    )


def _require_fitting(module: torch.nn.Module, network: Network) -> None:
    """Refuse an input that the network itself cannot take.

    Raises
    ------
    BadUsageError : its forward raises, with what.
    """
    try:
        with torch.no_grad():
            module(network.sample_input(1))
    except Exception as error:  # the model's own code, which may raise anything
        shape = "x".join(map(str, network.input_shape))
        said = str(error).strip().partition("\n")[0].rstrip(".")
        raise BadUsageError(
            f"{network.reference}: cannot take an input of {shape}, one float32 tensor: {type(error).__name__}: {said};"
            " give another shape with --input, or arguments with --arg"
        ) from error


def describe_network(network: Network, name: str) -> Model:
    """The profile of a network outside the catalogue, once its chain is known to compute what it computes.

    Raises
    ------
    BadUsageError : it cannot be built, traced or carried.
    HwrunError : the chain computes something else, or a cut changes the output.
    """
    module = network.build()
    _require_fitting(module, network)  # what tracing says of an input that does not fit is long and beside the point
    chain = network.chain(module)
    inputs = network.sample_input(_BATCHES[0])
    difference = max(check_whole(chain, module, network.sample_input(batch)) for batch in (1, *_BATCHES))
    if differing := cuts_that_differ(chain, inputs):
        shown = ", ".join(f"{cut} (before {chain.names[cut]})" for cut in differing)
        raise HwrunError(
            f"{network.reference}: cut {shown} changes what the next block returns when its input has been sent;"
            " expected the same bits. Fewer blocks (--max-blocks) may avoid that cut"
        )
    not_counted: set[str] = set()
    blocks = []
    live: Tensors = (inputs,)
    for index, block_name in enumerate(chain.names):
        stage = chain.stage(index, index + 1)
        one = _one_sample(live, [tensor.batch for tensor in chain.carried(index)])
        live, peak_bytes = _run(stage, live)
        outputs = tuple(tensor.sample for tensor in chain.carried(index + 1))
        block, missed = _block(block_name, stage, one, outputs, peak_bytes)
        blocks.append(block)
        not_counted |= missed
    result = blocks[-1].outputs[0].shape
    unread = sum(tensor.numel() for tensor in module.parameters()) - sum(
        tensor.numel() for tensor in chain.stage(0, len(chain)).parameters()
    )
    return Model(
        schema_version=1,
        name=name,
        classes=result[0] if result else 1,
        input=TensorShape(shape=network.input_shape, dtype="float32"),
        flops_convention=FLOPS_CONVENTION + ATTENTION_CONVENTION,
        origin={
            "command": f"hwrun trace {network.options} --name {name}",
            "network": str(network),
            "construction": network.construction,
            "traced_by": chain.how,
            "difference_from_untraced": f"{difference:.3g}",
            "parameters_not_read": str(unread),
            **_origin(not_counted),
        },
        blocks=tuple(blocks),
    )


def _origin(not_counted: set[str]) -> dict[str, str]:
    return {
        "torch": torch.__version__.partition("+")[0],
        "torchvision": version("torchvision").partition("+")[0],
        "fvcore": version("fvcore"),
        "not_counted": ", ".join(sorted(not_counted)),
    }


def _block(
    name: str, stage: torch.nn.Module, one: Tensors, outputs: tuple[TensorShape, ...], peak_bytes: int
) -> tuple[Block, set[str]]:
    """A block's profile, and the operations whose FLOPs are not counted."""
    flops, missed = _flops(stage, one)
    parameters = list(stage.parameters())
    block = Block(
        name=name,
        flops=flops,
        parameters=sum(tensor.numel() for tensor in parameters),
        parameter_bytes=sum(tensor.nbytes for tensor in parameters),
        buffer_bytes=sum(tensor.nbytes for tensor in stage.buffers()),
        outputs=outputs,
        peak_activation_bytes=math.ceil(peak_bytes / _BATCHES[0]),
    )
    return block, missed


def _one_sample(tensors: Sequence[torch.Tensor], batches: Sequence[BatchDimension]) -> Tensors:
    """The first sample of each, in memory of its own."""
    return tuple(
        tensor.narrow(batch.dimension, 0, batch.places).clone() for tensor, batch in zip(tensors, batches, strict=True)
    )


def peak_activation_bytes(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    """Largest sum of live activation bytes while `module` runs on `inputs`; the inputs count."""
    return _run(module, inputs)[1]


def _run(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[Tensors, int]:
    # Not inference_mode: under it a composite operation (a pool that also makes indices) is seen as one, and what
    # its parts allocate is missed.
    weights = [*module.parameters(), *module.buffers()]
    with torch.no_grad(), _LiveBytes(inputs, weights) as live:
        outputs: Tensors = module(*inputs)
    return outputs, live.peak_bytes


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves __init_subclass__ unannotated
    """Follows every storage from the operation that makes it until nothing refers to it any more."""

    def __init__(self, inputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._weights = {tensor.untyped_storage()._cdata for tensor in weights}
        self._sizes: dict[int, int] = {}
        self.peak_bytes = 0
        for tensor in inputs:
            self._follow(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes or key in self._weights:
            return
        self._sizes[key] = storage.nbytes()
        weakref.finalize(storage, self._sizes.pop, key, 0)
        self.peak_bytes = max(self.peak_bytes, sum(self._sizes.values()))


def _flops(stage: torch.nn.Module, inputs: Tensors) -> tuple[int, set[str]]:
    """FLOPs of one run, and the operations that are not counted."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # In one operation, attention would go uncounted with its projections.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            # fvcore scripts a loss function on import and traces with torch.jit, which torch has deprecated; and a
            # trace for counting may settle sizes, of which a stage reads the batch's.
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # not in __all__
            from fvcore.nn import FlopCountAnalysis  # type: ignore[import-untyped]  # ships no annotations

            analysis = FlopCountAnalysis(stage, inputs)
            analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
            analysis.set_op_handle("aten::baddbmm", _added_product_flops)
            analysis.unsupported_ops_warnings(False)
            analysis.uncalled_modules_warnings(False)
            return int(analysis.total()), set(analysis.unsupported_ops())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _attention_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Multiply-adds of queries × keys and of weights × values, of torch.jit values (…, length, width)."""
    queries, keys, values = (value.type().sizes() for value in inputs[:3])
    return int(math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1]))


def _added_product_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Multiply-adds of a batch of products added to something, of torch.jit values."""
    return int(math.prod(inputs[1].type().sizes()) * inputs[2].type().sizes()[-1])


def _sample_shape(tensors: tuple[torch.Tensor, torch.Tensor], where: str) -> TensorShape:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    batch = batch_dimension(shapes, _BATCHES)
    if batch is None:
        raise HwrunError(
            f"{where}: output is {shapes[0]} and {shapes[1]} for batches of {_BATCHES[0]} and {_BATCHES[1]},"
            " expected one dimension in proportion to the batch and no other to depend on it"
        )
    return TensorShape(shape=sample_shape(shapes[0], batch), dtype=str(tensors[0].dtype).removeprefix("torch."))
