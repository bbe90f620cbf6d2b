"""Tensors and the memory they live in."""

import torch

from hwrun.wire.tensors import outgoing, share_memory


def test_shared_memory_is_noticed_through_views():
    tensor = torch.zeros(4, 4)
    assert share_memory([tensor.reshape(16)], [tensor])
    assert not share_memory([tensor.clone()], [tensor])


def test_what_is_to_be_sent_outlives_the_tensor_it_was_made_of():
    specs, (payload,) = outgoing([torch.arange(200_000).reshape(2, -1)[:, ::2]])  # with gaps, so a copy is sent
    _ = [torch.full((100_000,), -1) for _ in range(3)]  # takes whatever memory is free again
    assert specs[0].shape == (2, 50_000)
    assert torch.equal(torch.frombuffer(payload, dtype=torch.int64), torch.arange(0, 200_000, 2))


def test_a_tensor_whose_memory_is_negated_when_read_is_sent_as_it_reads():
    tensor = torch._neg_view(torch.tensor([1.0, 2.0]))
    assert tensor.is_neg()
    _, (payload,) = outgoing([tensor])
    assert torch.frombuffer(payload, dtype=torch.float32).tolist() == [-1.0, -2.0]


def test_a_tensor_that_gradients_are_kept_of_is_sent_like_any_other():
    _, (payload,) = outgoing([torch.ones(3, requires_grad=True)])
    assert torch.frombuffer(payload, dtype=torch.float32).tolist() == [1.0, 1.0, 1.0]
