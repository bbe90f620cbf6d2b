from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import fx

from hwrun.errors import BadUsageError, HwrunError
from hwrun.models.catalogue import MODEL_NAMES, build_model, sample_input
from hwrun.models.cut import BlockChain, TracedBlock
from hwrun.models.state_dict import named_tensors
from paretosim.profiles import ProfileStore


@pytest.fixture(autouse=True)
def one_thread_without_gradients() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


class Forked(torch.nn.Module):
    """A skip over everything, an integer tensor, a size, and a parameter that is read by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)
        self.scale = torch.nn.Parameter(torch.full((4,), 1.5))
        self.register_buffer("offset", torch.arange(4.0), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = self.scale
        order = x.argsort(dim=1)
        h = torch.relu(self.first(x))
        h = self.second(h) * scale + self.offset
        return h.gather(1, order) + x, order


def forked_chain() -> BlockChain:
    module = Forked().eval()
    graph = fx.Tracer().trace(module)
    body = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    return BlockChain(module, graph, [TracedBlock(node.name, i, i + 1) for i, node in enumerate(body)])


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_halves_of_every_split_equal_the_whole_model_bit_for_bit(name: str) -> None:
    model = build_model(name)
    chain = BlockChain.of(name, model)
    side = 75 if name == "inception_v3" else 64  # about the smallest that each takes, and is soon done with
    x = torch.randn(2, 3, side, side)
    expected = model(x.clone())
    for split in range(len(chain) + 1):
        (output,) = chain.stage(split, len(chain))(*chain.stage(0, split)(x.clone()))
        assert torch.equal(output, expected), f"{name} split {split}"


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_split_carries_one_tensor_of_the_bytes_that_the_profile_says(name: str) -> None:
    chain = BlockChain.of(name, build_model(name, meta=True))
    x = sample_input(name, 2).to("meta")
    cut_bytes = ProfileStore().model(name).cut_bytes()
    for split in range(len(chain) + 1):
        assert [tensor.nbytes for tensor in chain.stage(0, split)(x)] == [2 * cut_bytes[split]]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_blocks_share_out_the_models_tensors_under_their_own_names(name: str) -> None:
    model = build_model(name, meta=True)
    chain = BlockChain.of(name, model)
    owned = [key for index in range(len(chain)) for key in chain.block_tensors(index)]
    assert sorted(owned) == sorted(model.state_dict())
    half = len(chain) // 2
    keys = [*chain.stage(0, half).state_dict(), *chain.stage(half, len(chain)).state_dict()]
    assert sorted(keys) == sorted(model.state_dict())


def test_an_empty_stage_returns_what_it_is_given() -> None:
    chain = BlockChain.of("alexnet", build_model("alexnet", meta=True))
    for cut in (0, 7, len(chain)):
        tensor = torch.rand(2, 3)
        (returned,) = chain.stage(cut, cut)(tensor)
        assert returned is tensor
        assert not named_tensors(chain.stage(cut, cut))


def test_the_auxiliary_head_is_held_but_idle() -> None:
    chain = BlockChain.of("inception_v3", build_model("inception_v3", meta=True))
    index = chain.names.index("AuxLogits")
    tensor = torch.rand(1, 768, 17, 17)
    assert chain.stage(index, index + 1)(tensor)[0] is tensor
    assert sum(t.numel() for t in chain.stage(index, index + 1).parameters()) == 2_565_386
    assert all(key.startswith("AuxLogits.") for key in chain.block_tensors(index))


def test_stages_share_the_models_memory() -> None:
    model = build_model("mobilenet_v2")
    tensors = named_tensors(BlockChain.of("mobilenet_v2", model).stage(3, 9))
    whole = named_tensors(model)
    assert tensors
    assert all(tensor.data_ptr() == whole[name].data_ptr() for name, tensor in tensors.items())


def test_a_cut_carries_every_live_value_and_any_three_stages_compose() -> None:
    chain = forked_chain()
    x = torch.randn(3, 4)
    expected = chain.module(x)
    count = len(chain)
    assert max(len(chain.stage(0, cut)(x)) for cut in range(count + 1)) == 3
    for first in range(count + 1):
        for last in range(first, count + 1):
            live = chain.stage(0, first)(x)
            live = chain.stage(last, count)(*chain.stage(first, last)(*live))
            assert all(torch.equal(a, b) for a, b in zip(live, expected, strict=True))


def test_a_parameter_read_by_name_is_held_where_it_is_used_and_not_carried() -> None:
    chain = forked_chain()
    user = chain.names.index("mul")
    assert "scale" in named_tensors(chain.stage(user, user + 1))
    assert all(not isinstance(t, torch.nn.Parameter) for t in chain.stage(0, user)(torch.randn(3, 4)))


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (4, 3), (0, 22), (22, 22)])
def test_a_stage_outside_the_chain_is_refused(first: int, last: int) -> None:
    chain = BlockChain.of("alexnet", build_model("alexnet", meta=True))
    with pytest.raises(BadUsageError, match=rf"got \[{first}:{last}\], expected 0 ≤ first ≤ last ≤ 21"):
        chain.stage(first, last)
    with pytest.raises(BadUsageError, match="block: got 21, expected 0 to 20"):
        chain.block_tensors(21)


def test_a_model_that_is_not_built_as_the_catalogue_says_is_refused() -> None:
    with pytest.raises(HwrunError, match=r"call 6 of the traced graph is layer1\.2\.conv1, expected layer2\.0"):
        BlockChain.of("resnet18", build_model("resnet50", meta=True))


def test_blocks_with_a_gap_are_refused() -> None:
    graph = fx.Tracer().trace(Forked())
    with pytest.raises(HwrunError, match="expected to cover all"):
        BlockChain(Forked(), graph, [TracedBlock("only", 0, 2)])
