"""Tensors and the memory they live in."""

import torch

from hwrun.wire.tensors import share_memory


def test_shared_memory_is_noticed_through_views():
    tensor = torch.zeros(4, 4)
    assert share_memory([tensor.reshape(16)], [tensor])
    assert not share_memory([tensor.clone()], [tensor])
