"""Between torch tensors and what travels: views without copies in both directions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from hwrun.wire.frames import TensorSpec
from hwrun.wire.tcp import Message


def memory_order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """Dimensions from the slowest to the fastest in memory; None where the elements leave gaps or overlap.

    >>> memory_order(torch.empty(2, 3, 4).permute(0, 2, 1))
    (0, 2, 1)
    """
    return _order(tuple(tensor.shape), tensor.stride())


@functools.lru_cache(64)
def _order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    order = sorted(range(len(shape)), key=lambda dimension: (-strides[dimension], dimension))
    step = 1
    for dimension in reversed(order):
        if shape[dimension] > 1:
            if strides[dimension] != step:
                return None
            step *= shape[dimension]
    return tuple(order)


def outgoing(tensors: Sequence[torch.Tensor]) -> tuple[tuple[TensorSpec, ...], tuple[memoryview, ...]]:
    """Specs and payload views of tensors; one with gaps in its memory is copied first, as a wire needs it."""
    specs: list[TensorSpec] = []
    payload: list[memoryview] = []
    for tensor in tensors:
        order = None if tensor.is_contiguous() else memory_order(tensor)
        specs.append(TensorSpec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), order or ()))
        straight = tensor.permute(order) if order else tensor.contiguous()
        payload.append(_bytes_of(straight))
    return tuple(specs), tuple(payload)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a tensor without gaps; every step through torch costs a message about a microsecond or two."""
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
