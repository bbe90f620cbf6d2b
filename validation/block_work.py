"""What a block makes a processor do: multiply-adds, bytes moved through memory, and whether it computes at all.

A model profile holds FLOPs, parameters and tensor sizes, not memory traffic, and a processor without fused
kernels writes and reads back every map between a convolution, its batch norm and its activation. The traffic is
counted from what the profile has:

- a block without batch norm, or that is one, reads its inputs, writes its outputs and reads its parameters;
- a block of convolutions with batch norm moves each normalised map six times (the convolution writes it, batch norm
  and activation read and write it, the next convolution reads it), reads its inputs once, and leaves the last
  read of its outputs to the next block. Batch norm keeps a mean and a variance per channel, 8 bytes in float32,
  so the block's buffers say how many channels were normalised. Their maps have the size of the output map, except
  where an expansion in front of a strided convolution has the input's: the peak of live activations
  (inputs + that map before and after its batch norm) gives its size;
- a block with parameters and no FLOPs is idle (an auxiliary head at inference) and moves nothing.

Against a count over every operation of the six networks this is 0.96–1.16 of it in MobileNetV2 and exact in nearly
every block of AlexNet and VGG16; 0.75–1.2 in residual blocks, whose additions it does not see; and 0.4–0.7 in
Inception's branching blocks, whose inputs are read by each branch and whose outputs are copied together. A
model's own factor takes up what its blocks have in common of that. With the traffic of every operation in its place the
left-out error of the Pi was 7 % instead of 5 %, so profiles need not carry it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paretosim.block import Block, Model, TensorShape

_BYTES_PER_NORMALISED_CHANNEL = 8
_AFFINE_PARAMETERS_PER_CHANNEL = 2
_MOVES_PER_NORMALISED_MAP = 6
_FLOAT32_BYTES = 4
# Peaks hold a few bytes besides maps; an expansion is several times the output.
_CLEARLY = 1.05


@dataclass(frozen=True)
class BlockWork:
    """Work of one block for one batch. `is_computing` is whether it has any arithmetic (and so a call's overhead)."""

    multiply_adds: float
    moved_bytes: float
    is_computing: bool


def model_work(model: Model, batch: int) -> tuple[BlockWork, ...]:
    """Work of every block for a whole batch."""
    inputs: Sequence[TensorShape] = (model.input,)
    found = []
    for block in model.blocks:
        found.append(
            BlockWork(
                multiply_adds=float(batch * block.flops),
                moved_bytes=0.0
                if _is_idle(block)
                else batch * _activation_bytes(block, inputs) + block.parameter_bytes,
                is_computing=block.flops > 0,
            )
        )
        inputs = block.outputs
    return tuple(found)


def work_matrix(work: Sequence[BlockWork]) -> NDArray[np.float64]:
    """Shape (blocks, 3): multiply-adds, bytes moved, calls."""
    return np.array([(entry.multiply_adds, entry.moved_bytes, float(entry.is_computing)) for entry in work])


def _is_idle(block: Block) -> bool:
    return block.flops == 0 and block.parameters > 0


def _activation_bytes(block: Block, inputs: Sequence[TensorShape]) -> float:
    """Activation bytes that one sample reads and writes."""
    input_bytes = sum(tensor.sample_bytes for tensor in inputs)
    channels = block.buffer_bytes / _BYTES_PER_NORMALISED_CHANNEL
    if block.parameters <= _AFFINE_PARAMETERS_PER_CHANNEL * channels or channels == 0:
        return float(input_bytes + block.output_bytes)
    pixels, input_pixels = (_pixels(tensors) for tensors in (block.outputs, inputs))
    normalised_bytes = channels * pixels * _FLOAT32_BYTES
    expanded_bytes = (block.peak_activation_bytes - input_bytes) / 2
    if pixels < input_pixels and expanded_bytes > _CLEARLY * block.output_bytes:
        normalised_bytes += expanded_bytes * (1 - pixels / input_pixels)
    return input_bytes + _MOVES_PER_NORMALISED_MAP * normalised_bytes - block.output_bytes


def _pixels(tensors: Sequence[TensorShape]) -> int:
    return max(math.prod(tensor.shape[1:]) for tensor in tensors)
