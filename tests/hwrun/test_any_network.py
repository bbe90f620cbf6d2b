"""Chains of networks outside the catalogue: what cuts carry, and that every one of them gives the whole's output."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwrun.errors import BadUsageError, HwrunError
from hwrun.models import cut_rule
from hwrun.models.composition import check_whole, cuts_that_differ
from hwrun.models.cut import BlockChain
from hwrun.models.cut_rule import TracedBlock
from hwrun.models.graph_values import sample_shape
from hwrun.models.network import Network
from hwrun.models.state_dict import named_tensors
from hwrun.models.tracing import trace
from hwrun.wire.frames import MAX_TENSORS
from hwrun.wire.tensors import as_delivered
from tests.hwrun import small_networks as small

TORCHVISION = [
    ("densenet121", (3, 64, 64), 2, 39),
    ("vit_b_16", (3, 32, 32), 2, 0),
    ("swin_t", (3, 32, 32), 2, 0),
    ("googlenet", (3, 32, 32), 2, 0),
    ("efficientnet_b0", (3, 32, 32), 2, 0),
    ("convnext_tiny", (3, 32, 32), 2, 0),
]
CATALOGUE = [
    ("mobilenet_v2", (3, 32, 32), 2, 0),
    ("resnet18", (3, 32, 32), 2, 0),
    ("resnet50", (3, 32, 32), 2, 2),
    ("inception_v3", (3, 75, 75), 2, 3),
    ("alexnet", (3, 64, 64), 2, 0),
    ("vgg16", (3, 32, 32), 2, 0),
]


@pytest.fixture(autouse=True)
def one_thread_without_gradients() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


def chain_of(module: nn.Module, shape: tuple[int, ...], max_blocks: int | None = None) -> BlockChain:
    module = module.eval().requires_grad_(False)
    return BlockChain.derived(trace(module, shape, torch.float32), max_blocks)


def assert_every_cut_composes(chain: BlockChain, module: nn.Module, x: torch.Tensor) -> None:
    """Both halves of every cut, with what a wire does to the tensors between them, against the model itself."""
    expected = chain.returned(module(x.clone()))
    assert expected
    for cut in range(len(chain) + 1):
        live = as_delivered(chain.stage(0, cut)(x.clone()))
        for tensor, carried in zip(live, chain.carried(cut), strict=True):
            assert tensor.shape[carried.batch.dimension] == x.shape[0] * carried.batch.places
            assert sample_shape(tensor.shape, carried.batch) == carried.sample.shape
        assert sum(t.nbytes for t in live) == x.shape[0] * sum(c.sample.sample_bytes for c in chain.carried(cut))
        outputs = chain.stage(cut, len(chain))(*live)
        assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True)), f"cut {cut}"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape", "batch", "several"), TORCHVISION + CATALOGUE)
def test_both_halves_of_every_cut_give_the_whole_output_bit_for_bit(
    name: str, shape: tuple[int, ...], batch: int, several: int
) -> None:
    arguments = {"image_size": shape[1]} if name == "vit_b_16" else {}
    network = Network(reference=f"torchvision:{name}", input_shape=shape, arguments=arguments)
    module = network.build()
    chain = network.chain(module)
    assert chain.how == "torch.fx symbolic trace"
    assert len(chain) >= 8
    assert sum(len(chain.carried(cut)) > 1 for cut in range(len(chain) + 1)) == several
    x = network.sample_input(batch)
    assert check_whole(chain, module, x) == 0
    assert cuts_that_differ(chain, x) == []
    assert_every_cut_composes(chain, module, x)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_u_net_composes_at_every_cut_whatever_the_batch(batch: int) -> None:
    module = small.UNet()
    chain = chain_of(module, (3, 16, 16))
    assert check_whole(chain, module, torch.randn(batch, 3, 16, 16)) == 0
    assert_every_cut_composes(chain, module, torch.randn(batch, 3, 16, 16))


def test_a_u_nets_cuts_carry_its_skips() -> None:
    chain = chain_of(small.UNet(), (3, 16, 16))
    shapes = {
        name: [carried.sample.shape for carried in chain.carried(index + 1)] for index, name in enumerate(chain.names)
    }
    first, second = (8, 16, 16), (16, 8, 8)
    assert shapes["enter"] == [first]
    assert shapes["down1"] == [first, second]
    # The cuts around `middle` would carry (32, 4, 4) besides: more than those on either side of them.
    assert shapes["down2..up2"] == [first, (16, 8, 8)]
    assert shapes["up1..head"] == [(3, 16, 16)]


def test_numbers_read_from_shapes_are_computed_again_and_weights_are_not_sent() -> None:
    module = small.Attention()
    chain = chain_of(module, (6, 8))
    for batch in (1, 2, 4):
        assert check_whole(chain, module, torch.randn(batch, 6, 8)) == 0
        assert_every_cut_composes(chain, module, torch.randn(batch, 6, 8))
    kinds = {c.batch.dimension for cut in range(len(chain) + 1) for c in chain.carried(cut)}
    assert kinds == {0, 1}  # behind the permutation, the batch is the second dimension
    user = next(i for i, name in enumerate(chain.names) if "mix" in name)
    assert "bias" in named_tensors(chain.stage(user, user + 1))
    assert {len(chain.carried(cut)) for cut in range(len(chain) + 1)} == {1}


def test_the_batch_may_be_several_places_of_its_dimension() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(x).reshape(-1, 4)).view(x.shape[0], -1)

    module = Folded()
    chain = chain_of(module, (3, 4))
    (carried,) = chain.carried(1)
    assert (carried.sample.shape, carried.batch.places) in [((3, 4), 3), ((3, 4), 1)]
    assert_every_cut_composes(chain, module, torch.randn(2, 3, 4))


def test_a_cut_between_two_names_of_one_memory_is_not_made() -> None:
    module = small.InPlace()
    chain = chain_of(module, (6,))
    x = torch.randn(3, 6)
    assert check_whole(chain, module, x) == 0
    assert_every_cut_composes(chain, module, x)
    # From the making of the view on, it and what it is a view of are alive until the end.
    assert chain.names == ("one", "two..three")


def test_a_tensor_that_does_not_grow_with_the_batch_is_not_carried() -> None:
    module = small.OverTheBatch()
    chain = chain_of(module, (4,))
    assert chain.names == ("one", "two", "three")
    assert [[c.sample.shape for c in chain.carried(cut)] for cut in range(4)] == [[(4,)]] * 4
    assert_every_cut_composes(chain, module, torch.randn(3, 4))


def test_a_network_that_branches_on_shapes_is_exported_instead() -> None:
    module = small.ShapeBranch()
    chain = chain_of(module, (4,))
    assert chain.how == "torch.export"
    assert len(chain) == 3
    for batch in (1, 3):
        assert check_whole(chain, module, torch.randn(batch, 4)) == 0
        assert_every_cut_composes(chain, module, torch.randn(batch, 4))
    assert set(named_tensors(chain.stage(0, len(chain)))) >= {"one.weight", "two.weight"}


def test_a_network_that_branches_on_values_is_refused_with_the_line_and_what_to_do() -> None:
    with pytest.raises(BadUsageError) as caught:
        chain_of(small.ValueBranch(), (4,))
    message = str(caught.value)
    assert "small_networks.py" in message
    assert "`if h.sum() > 0:`" in message
    assert "torch.where" in message


def test_weights_that_change_while_running_are_refused() -> None:
    with pytest.raises(BadUsageError, match="operation add_ changes calls while the model runs; expected weights that"):
        chain_of(small.Counting(by_samples=True), (4,))
    module = small.Counting(by_samples=False)
    with pytest.raises(HwrunError, match="the model changes calls while it runs"):
        check_whole(chain_of(module, (4,)), module, torch.randn(2, 4))


def test_a_graph_that_computes_something_else_is_found() -> None:
    module = small.Noisy()
    chain = chain_of(module, (4,))
    with pytest.raises(HwrunError, match="computes something else than the model"):
        check_whole(chain, module, torch.randn(2, 4))


def test_a_block_that_rounds_otherwise_when_its_input_was_sent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = chain_of(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)), (4,))
    monkeypatch.setattr("hwrun.models.composition.as_delivered", lambda live: tuple(t + 1e-3 for t in live))
    assert cuts_that_differ(chain, torch.randn(2, 4)) == [0, 1, 2]


def test_what_a_model_returns_is_kept_in_its_order() -> None:
    module = small.Returns("dictionary")
    chain = chain_of(module, (4,))
    assert [c.sample.shape for c in chain.carried(len(chain))] == [(2,), (4,)]
    assert_every_cut_composes(chain, module, torch.randn(2, 4))
    twice = small.Returns("twice")
    assert_every_cut_composes(chain_of(twice, (4,)), twice, torch.randn(2, 4))


def test_a_result_that_is_not_of_the_batch_is_refused() -> None:
    with pytest.raises(BadUsageError, match=r"returns mean, of shape \(\) and \(\) at batches of 2 and 3"):
        chain_of(small.Returns("mean"), (4,))


def test_no_cut_carries_more_tensors_than_a_frame_holds() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(MAX_TENSORS + 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = [x]
            for layer in self.layers:
                kept.append(layer(kept[-1]))
            return torch.cat(kept, 1)

    module = Many()
    chain = chain_of(module, (4,))
    assert max(len(chain.carried(cut)) for cut in range(len(chain) + 1)) == MAX_TENSORS
    assert_every_cut_composes(chain, module, torch.randn(1, 4))


def test_blocks_are_the_same_twice_and_on_a_model_without_data() -> None:
    def blocks(device: str) -> list[object]:
        with torch.device(device):
            module = small.UNet().eval()
        return BlockChain.derived(trace(module, (3, 16, 16), torch.float32))._blocks

    assert blocks("cpu") == blocks("cpu") == blocks("meta")


@pytest.mark.parametrize("most", [1, 2, 4])
def test_no_more_blocks_than_asked_for(most: int) -> None:
    module = small.UNet()
    chain = chain_of(module, (3, 16, 16), most)
    assert len(chain) == most
    assert len(set(chain.names)) == most
    assert_every_cut_composes(chain, module, torch.randn(2, 3, 16, 16))


def test_a_module_called_twice_gives_two_blocks_of_different_names() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x))

    assert chain_of(Again(), (4,)).names == ("layer", "layer~2")


def test_a_single_layer_is_one_block() -> None:
    layer = nn.Linear(4, 4)
    chain = chain_of(layer, (4,))
    assert len(chain) == 1
    assert_every_cut_composes(chain, layer, torch.randn(2, 4))


def test_arguments_with_defaults_keep_them() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            h = self.one(x)
            if mask is not None:
                h = h * mask
            return self.two(h)

    module = Optional()
    chain = chain_of(module, (4,))
    assert chain.names == ("one", "two")
    assert_every_cut_composes(chain, module, torch.randn(2, 4))
    with pytest.raises(BadUsageError, match="missing 1 required positional argument"):
        chain_of(nn.Bilinear(4, 4, 4), (4,))


class Program(nn.Module):
    """Steps on values of four features a sample: each makes another value, some change one in place."""

    def __init__(self, steps: tuple[tuple[str, int, int], ...]) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in steps)
        self.scale = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [self.layers[0](x)]
        for layer, (kind, i, j) in zip(self.layers, self.steps, strict=True):
            one, two = values[i % len(values)], values[j % len(values)]
            match kind:
                case "layer":
                    values.append(layer(one))
                case "add":
                    values.append(one + two)
                case "add in place":
                    one += two
                    values.append(two * self.scale)
                case "relu in place":
                    values.append(torch.relu_(one))
                case "view":
                    values.append(one.view(one.shape[0], 2, 2).transpose(1, 2).reshape(-1, 4))
                case "alias":
                    values.append(one.view(-1, 4))
                case "halves":
                    left, right = one.chunk(2, dim=1)
                    left.mul_(2)
                    values.append(torch.cat([right, left], 1))
                case "mean":
                    values.append(one - two.mean(0))
        return torch.cat(values[-3:], 1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["layer", "add", "add in place", "relu in place", "view", "alias", "halves", "mean"],
            ),
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=9,
    ).map(tuple)
)
def test_any_program_composes_at_every_position_where_it_can_be_cut(steps: tuple[tuple[str, int, int], ...]) -> None:
    with torch.no_grad():
        module = Program(steps).eval().requires_grad_(False)
        traced = trace(module, (4,), torch.float32)
        body = [node for node in traced.graph.nodes if node.op not in ("placeholder", "output")]
        bounds = [cut.position for cut in cut_rule._possible(traced, body)]
        blocks = [TracedBlock(str(first), first, last) for first, last in itertools.pairwise(bounds)]
        carried = {node: seen.carried for node, seen in traced.seen.items() if seen.carried is not None}
        chain = BlockChain(
            traced.module, traced.graph, blocks, remade=cut_rule.remade(traced), carried=carried, how=traced.how
        )
        assert_every_cut_composes(chain, module, torch.randn(2, 4))
