"""Between torch tensors and what travels: views without copies in both directions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch

from hwrun.wire.frames import TensorSpec
from hwrun.wire.tcp import Message


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
        spec, straight = _layout(tensor.dtype, tensor.shape, tensor.stride())
        specs.append(spec)
        if not straight:
            tensor = tensor.permute(spec.order) if spec.order else tensor.contiguous()
        payload.append(_bytes_of(tensor))
    return tuple(specs), tuple(payload)


@functools.lru_cache(64)
def _layout(dtype: torch.dtype, shape: torch.Size, strides: tuple[int, ...]) -> tuple[TensorSpec, bool]:
    """How such a tensor is announced, and whether its elements lie in the order of its dimensions, without gaps.

    Remembered, since every batch of a pipeline has the same; worked out anew it costs a message some 50 µs, with
    caches that the last payload has just gone through.
    """
    straight = math.prod(shape) == 0 or _is_dense(shape, strides, range(len(shape)))
    order = () if straight else _order(shape, strides) or ()
    return TensorSpec(str(dtype).removeprefix("torch."), tuple(shape), order), straight


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a tensor without gaps, in as few steps through torch as there are."""
    if tensor.dtype is torch.bfloat16 or not tensor.numel():  # numpy has no such type; no cast of an empty view
        return tensor.reshape(-1).view(torch.uint8).numpy().data
    return tensor.detach().numpy().data.cast("B")


def incoming(message: Message) -> tuple[torch.Tensor, ...]:
    """Tensors that are views of the message's buffer: valid until it goes back to its pool."""
    return tuple(
        _laid_out(
            torch.frombuffer(
                message.buffer,
                dtype=getattr(torch, spec.dtype),
                count=spec.size_bytes // _item_bytes(spec),
                offset=offset,
            ),
            spec,
        )
        for spec, offset in zip(message.specs, message.offsets, strict=True)
    )


def as_delivered(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The tensors as the next stage gets them, in memory of their own, without a wire between."""
    specs, payload = outgoing(tensors)
    return tuple(
        _laid_out(torch.frombuffer(view, dtype=tensor.dtype).clone(), spec)
        for tensor, spec, view in zip(tensors, specs, payload, strict=True)
    )


def _laid_out(flat: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    if not spec.order:
        return flat.reshape(spec.shape)
    places = [spec.order.index(dimension) for dimension in range(len(spec.order))]
    return flat.reshape([spec.shape[dimension] for dimension in spec.order]).permute(places)


def _item_bytes(spec: TensorSpec) -> int:
    dtype: torch.dtype = getattr(torch, spec.dtype)
    return dtype.itemsize


def share_memory(tensors: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    """Whether any of `tensors` lives in the storage of any of `others`."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in others}
    return any(tensor.untyped_storage().data_ptr() in storages for tensor in tensors)
