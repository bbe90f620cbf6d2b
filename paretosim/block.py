"""Blocks and models: what is cut, and what a cut has to carry."""

from __future__ import annotations

import functools
import math

import msgspec

from paretosim.errors import BadInputError

DTYPE_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip


class TensorShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape of one sample of a tensor (no batch dimension) and its dtype."""

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BYTES:
            raise BadInputError(f"dtype: got {self.dtype!r}, expected one of {', '.join(DTYPE_BYTES)}")
        if any(size <= 0 for size in self.shape):
            raise BadInputError(f"shape: got {list(self.shape)}, expected positive sizes")

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is never cut: a group of operations with everything that leaves it.

    `flops` is per sample in fvcore's convention, where a multiply-add counts as one.
    `outputs` are all tensors alive across the cut after this block; `peak_activation_bytes` is per sample.
    """

    name: str
    flops: int
    parameters: int
    parameter_bytes: int
    buffer_bytes: int
    outputs: tuple[TensorShape, ...]
    peak_activation_bytes: int

    def __post_init__(self) -> None:
        for field in ("flops", "parameters", "parameter_bytes", "buffer_bytes", "peak_activation_bytes"):
            if getattr(self, field) < 0:
                raise BadInputError(f"block {self.name!r}, {field}: got {getattr(self, field)}, expected 0 or more")
        if not self.outputs:
            raise BadInputError(f"block {self.name!r}, outputs: got none, expected at least one tensor")

    @property
    def output_bytes(self) -> int:
        """Bytes per sample that cross a cut after this block."""
        return sum(tensor.sample_bytes for tensor in self.outputs)

    @property
    def weight_bytes(self) -> int:
        """Bytes of parameters and buffers (batch-norm statistics and the like) that a device has to hold."""
        return self.parameter_bytes + self.buffer_bytes


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A network as a chain of blocks; split s puts the first s of them on the first device."""

    schema_version: int
    name: str
    classes: int
    input: TensorShape
    flops_convention: str
    origin: dict[str, str]
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        if self.schema_version != 1:
            raise BadInputError(f"schema_version: got {self.schema_version}, expected 1")
        if not self.blocks:
            raise BadInputError("blocks: got none, expected at least one")
        names = [block.name for block in self.blocks]
        if len(set(names)) != len(names):
            raise BadInputError("blocks: got two of the same name, expected unique names")

    @property
    def parameters(self) -> int:
        """Number of parameters of the whole model."""
        return sum(block.parameters for block in self.blocks)

    def cut_bytes(self) -> tuple[int, ...]:
        """Bytes per sample across each of the N + 1 cuts: the input at 0, the output of block s − 1 at s."""
        return self._cut_bytes

    def cut_name(self, cut: int) -> str:
        """What is in front of a cut, 0 … N: the name of the block before it, or that it is the input."""
        return "(input)" if cut == 0 else self.blocks[cut - 1].name

    @functools.cached_property
    def _cut_bytes(self) -> tuple[int, ...]:  # asked for several times by everything that is predicted
        return (self.input.sample_bytes, *(block.output_bytes for block in self.blocks))
