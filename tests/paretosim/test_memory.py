"""Memory of a stage: by hand, and all stages at once against one at a time."""

from __future__ import annotations

from typing import Any

import pytest

from paretosim.block import Model
from paretosim.memory import all_stages_memory_bytes
from paretosim.profiles import ProfileStore


def stage_memory_bytes(model: Model, first: int, last: int, batch: int) -> int:
    """One stage, as docs/model.md says it."""
    cuts, blocks = model.cut_bytes(), model.blocks[first:last]
    peak = max((block.peak_activation_bytes for block in blocks), default=0)
    return sum(block.weight_bytes for block in blocks) + batch * (peak + cuts[first] + cuts[last])


def test_a_stage_holds_weights_its_largest_block_and_a_batch_at_both_ends(toy: Any) -> None:
    model = toy.model((50, 10, 30), inputs=100, weights=1000)  # 400 → 200 → 40 → 120 bytes a sample
    assert all_stages_memory_bytes(model, batch=8)[0, 2] == 2 * 1000 + 8 * (200 + 400 + 40)
    assert all_stages_memory_bytes(model, batch=1)[1, 3] == 2 * 1000 + 120 + 200 + 120


def test_an_empty_stage_holds_a_batch_arriving_and_one_leaving(toy: Any) -> None:
    model = toy.model((50, 10), inputs=100)
    assert all_stages_memory_bytes(model, batch=2).diagonal().tolist() == [1600, 800, 160]


@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v3"])
def test_all_stages_at_once_are_the_same_as_one_at_a_time(name: str) -> None:
    model = ProfileStore().model(name)
    cuts = range(len(model.blocks) + 1)
    table = all_stages_memory_bytes(model, batch=8)
    expected = [[stage_memory_bytes(model, i, j, 8) if i <= j else 0 for j in cuts] for i in cuts]
    assert table.tolist() == expected
