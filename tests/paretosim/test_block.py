"""Blocks and models: sizes of cuts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from paretosim.block import DTYPE_BYTES, Block, TensorShape
from paretosim.errors import BadInputError


def test_a_cut_carries_every_tensor_alive_across_it_ints_included() -> None:
    block = Block(
        name="b", flops=0, parameters=0, parameter_bytes=10, buffer_bytes=5, peak_activation_bytes=0,
        outputs=(TensorShape(shape=(3, 4), dtype="float32"), TensorShape(shape=(2,), dtype="int64")),
    )  # fmt: skip
    assert block.output_bytes == 3 * 4 * 4 + 2 * 8
    assert block.weight_bytes == 15


def test_a_scalar_tensor_has_one_element() -> None:
    assert TensorShape(shape=(), dtype="bfloat16").sample_bytes == 2


def test_the_cuts_of_a_model_are_its_input_and_every_output(toy: Any) -> None:
    model = toy.model((50, 10), inputs=100, weights=40)
    assert model.cut_bytes() == (400, 200, 40)
    assert model.parameters == 20


def test_a_cut_goes_by_the_block_before_it(toy: Any) -> None:
    assert [toy.model().cut_name(cut) for cut in (0, 1, 2)] == ["(input)", "b0", "b1"]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda toy: TensorShape(shape=(0, 3), dtype="float32"), r"shape: got \[0, 3\], expected positive"),
        (lambda toy: TensorShape(shape=(3,), dtype="f4"), f"dtype: got 'f4', expected one of {', '.join(DTYPE_BYTES)}"),
        (lambda toy: msgspec.structs.replace(toy.model().blocks[0], outputs=()), "outputs: got none"),
        (lambda toy: msgspec.structs.replace(toy.model().blocks[0], flops=-1), "block 'b0', flops: got -1"),
        (lambda toy: msgspec.structs.replace(toy.model(), blocks=()), "blocks: got none"),
        (lambda toy: msgspec.structs.replace(toy.model(), schema_version=2), "schema_version: got 2, expected 1"),
        (lambda toy: msgspec.structs.replace(toy.model(), blocks=toy.model().blocks[:1] * 2), "two of the same name"),
    ],
)
def test_nonsense_is_refused(toy: Any, build: Callable[[Any], object], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        build(toy)
