"""Between torch tensors and what travels: views without copies in both directions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hwrun.frames import TensorSpec
from hwrun.tcp import Message


def outgoing(tensors: Sequence[torch.Tensor]) -> tuple[tuple[TensorSpec, ...], tuple[memoryview, ...]]:
    """Specs and payload views of tensors; one that is not contiguous is copied first, as a wire needs it."""
    specs: list[TensorSpec] = []
    payload: list[memoryview] = []
    for tensor in tensors:
        specs.append(TensorSpec(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)))
        payload.append(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return tuple(specs), tuple(payload)


def incoming(message: Message) -> tuple[torch.Tensor, ...]:
    """Tensors that are views of the message's buffer: valid until it goes back to its pool."""
    return tuple(
        torch.frombuffer(
            message.buffer, dtype=getattr(torch, spec.dtype), count=spec.size_bytes // _item_bytes(spec), offset=offset
        ).reshape(spec.shape)
        for spec, offset in zip(message.specs, message.offsets, strict=True)
    )


def _item_bytes(spec: TensorSpec) -> int:
    dtype: torch.dtype = getattr(torch, spec.dtype)
    return dtype.itemsize


def share_memory(tensors: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    """Whether any of `tensors` lives in the storage of any of `others`."""
    storages = {tensor.untyped_storage().data_ptr() for tensor in others}
    return any(tensor.untyped_storage().data_ptr() in storages for tensor in tensors)
