"""Model profiles: what each block costs and what leaves it, found by tracing and running the cut model.

Sizes and FLOPs do not depend on values, so blocks run with blank weights on blank inputs; a second batch size,
on torch's `meta` device (shapes without data), tells which dimension is the batch's. The peak of a block counts
each storage once, from the operation that makes it until its last reference is gone: the block's inputs,
its outputs and whatever is between. In-place results and views share a storage; scratch memory inside one
operation (im2col, packed weights) is not seen.
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

from hwrun.catalogue import build_model, catalogue_entry
from hwrun.cut import BlockChain
from hwrun.errors import HwrunError
from paretosim.block import Block, Model, TensorShape

FLOPS_CONVENTION = (
    "fvcore FlopCountAnalysis, per sample: a multiply-add counts as one; operations listed in"
    " origin.not_counted count as none"
)
Tensors = tuple[torch.Tensor, ...]
# Two different batch sizes tell which dimension is the batch's.
_BATCHES = (2, 3)


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
        flops, missed = _flops(stage, tuple(tensor[:1].clone() for tensor in small))
        small, peak_bytes = _run(stage, small)
        not_counted |= missed
        parameters = list(stage.parameters())
        blocks.append(
            Block(
                name=block_name,
                flops=flops,
                parameters=sum(tensor.numel() for tensor in parameters),
                parameter_bytes=sum(tensor.nbytes for tensor in parameters),
                buffer_bytes=sum(tensor.nbytes for tensor in stage.buffers()),
                outputs=tuple(_sample_shape(pair, f"{name} {block_name}") for pair in zip(small, large, strict=True)),
                peak_activation_bytes=math.ceil(peak_bytes / _BATCHES[0]),
            )
        )
    return Model(
        schema_version=1,
        name=name,
        classes=entry.classes,
        input=TensorShape(shape=entry.input_shape, dtype="float32"),
        flops_convention=FLOPS_CONVENTION,
        origin={
            "command": f"hwrun trace --model {name}",
            "construction": entry.construction,
            "torch": torch.__version__.partition("+")[0],
            "torchvision": version("torchvision").partition("+")[0],
            "fvcore": version("fvcore"),
            "not_counted": ", ".join(sorted(not_counted)),
        },
        blocks=tuple(blocks),
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
    """FLOPs of one run, and the operations that fvcore does not count."""
    with warnings.catch_warnings():
        # fvcore scripts a loss function on import and traces with torch.jit, which torch has deprecated.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis  # type: ignore[import-untyped]  # ships no annotations

        analysis = FlopCountAnalysis(stage, inputs)
        analysis.unsupported_ops_warnings(False)
        analysis.uncalled_modules_warnings(False)
        return int(analysis.total()), set(analysis.unsupported_ops())


def _sample_shape(tensors: tuple[torch.Tensor, torch.Tensor], where: str) -> TensorShape:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if [shape[:1] for shape in shapes] != [(batch,) for batch in _BATCHES] or shapes[0][1:] != shapes[1][1:]:
        raise HwrunError(
            f"{where}: output is {shapes[0]} and {shapes[1]} for batches of {_BATCHES[0]} and {_BATCHES[1]},"
            " expected the batch as first dimension and no other to depend on it"
        )
    return TensorShape(shape=shapes[0][1:], dtype=str(tensors[0].dtype).removeprefix("torch."))
