"""Between torch tensors and what travels: views without copies in both directions."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence

import numpy as np
import torch

from hwrun.wire.buffer_pool import new_buffer
from hwrun.wire.connection import Message, places
from hwrun.wire.frames import DTYPES, TensorSpec

# numpy has no bfloat16: such a tensor is first seen as numbers of the same length.
_NUMPY = {name: np.dtype("int16" if name == "bfloat16" else name) for name in DTYPES}


def memory_order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """Dimensions from the slowest to the fastest in memory; None where the elements leave gaps or overlap.

    >>> memory_order(torch.empty(2, 3, 4).permute(0, 2, 1))
    (0, 2, 1)
    """
    return _order(tensor.shape, tensor.stride())


def _order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    order = sorted(range(len(shape)), key=lambda dimension: (-strides[dimension], dimension))
    return tuple(order) if _is_dense(shape, strides, order) else None


def _is_dense(shape: tuple[int, ...], strides: tuple[int, ...], order: Sequence[int]) -> bool:
    """Whether the elements lie without gaps, the dimensions from the slowest to the fastest as in `order`."""
    step = 1
    for dimension in reversed(order):
        if shape[dimension] > 1:
            if strides[dimension] != step:
                return False
            step *= shape[dimension]
    return True


def outgoing(tensors: Sequence[torch.Tensor]) -> tuple[tuple[TensorSpec, ...], tuple[memoryview, ...]]:
    """Specs and payload views of tensors; one with gaps in its memory is copied first, as a wire needs it."""
    specs: list[TensorSpec] = []
    payload: list[memoryview] = []
    for tensor in tensors:
        spec, size_bytes, straight = _layout(tensor.dtype, tensor.shape, tensor.stride())
        specs.append(spec)
        if not straight:
            tensor = tensor.permute(spec.order) if spec.order else tensor.contiguous()
        payload.append(_bytes_of(tensor, size_bytes))
    return tuple(specs), tuple(payload)


@functools.lru_cache(64)
def _layout(dtype: torch.dtype, shape: torch.Size, strides: tuple[int, ...]) -> tuple[TensorSpec, int, bool]:
    """How such a tensor is announced, its bytes, and whether they lie in the order of its dimensions, without gaps.

    Remembered, since every batch of a pipeline has the same; worked out anew it costs a message some 50 µs, with
    caches that the last payload has just gone through.
    """
    straight = math.prod(shape) == 0 or _is_dense(shape, strides, range(len(shape)))
    order = () if straight else _order(shape, strides) or ()
    spec = TensorSpec(str(dtype).removeprefix("torch."), tuple(shape), order)
    return spec, spec.size_bytes, straight


def _bytes_of(tensor: torch.Tensor, size_bytes: int) -> memoryview:
    """The memory of a tensor without gaps, which it keeps.

    By its address, as numpy's way takes a thread that was just woken three to four times as long (15 µs against 4).
    """
    if tensor.is_neg():
        tensor = tensor.resolve_neg()  # what is in memory is not what it reads as
    memory = (ctypes.c_ubyte * size_bytes).from_address(tensor.data_ptr())
    memory.tensor = tensor  # type: ignore[attr-defined]  # lives as long as a view of it
    return memoryview(memory).cast("B")


def incoming(message: Message) -> tuple[torch.Tensor, ...]:
    """Tensors that are views of a message's buffer: valid until it goes back to its pool."""
    return _views(message.buffer, message.specs)


class Room:
    """Memory for tensors of these specs, used again for one batch after another."""

    __slots__ = ("_views", "buffer", "specs")

    def __init__(self, specs: tuple[TensorSpec, ...]) -> None:
        self.specs = specs
        self.buffer = new_buffer(places(specs)[1])
        self._views = _views(self.buffer, specs)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Views of the memory: tensors of their own each time, so that shapes changed in place are gone in the next."""
        return tuple([view.detach() for view in self._views])


def as_delivered(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The tensors as the next stage gets them, in memory of their own, without a wire between."""
    specs, payload = outgoing(tensors)
    delivered = []
    for spec, view in zip(specs, payload, strict=True):
        buffer = new_buffer(view.nbytes)
        buffer[:] = view
        delivered.append(_viewed(buffer, spec, 0))
    return tuple(delivered)


def _views(buffer: memoryview, specs: tuple[TensorSpec, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(_viewed(buffer, spec, offset) for spec, offset in zip(specs, places(specs)[0], strict=True))


def _viewed(buffer: memoryview, spec: TensorSpec, offset: int) -> torch.Tensor:
    """The tensor at that place of a buffer: laid out by numpy, whose views cost a third of torch's."""
    if spec.order:
        in_memory = np.ndarray([spec.shape[d] for d in spec.order], _NUMPY[spec.dtype], buffer, offset)
        array = in_memory.transpose([spec.order.index(dimension) for dimension in range(len(spec.order))])
    else:
        array = np.ndarray(spec.shape, _NUMPY[spec.dtype], buffer, offset)
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if spec.dtype == "bfloat16" else tensor


def share_memory(tensors: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    """Whether any of `tensors` lives in the storage of any of `others`."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in others}
    return any(tensor.untyped_storage().data_ptr() in storages for tensor in tensors)
