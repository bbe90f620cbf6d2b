from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from hwrun.cli import main
from hwrun.errors import HwrunError
from hwrun.models import model_profile
from hwrun.models.catalogue import MODEL_NAMES, build_model, sample_input
from hwrun.models.cut import BlockChain
from paretosim.block import Model
from paretosim.profiles import ProfileStore, read_profile

described_once = functools.cache(model_profile.describe_model)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_shipped_profile_is_what_tracing_gives(name: str) -> None:
    shipped = ProfileStore().model(name)
    described = described_once(name)
    assert (described.blocks, described.input, described.classes) == (shipped.blocks, shipped.input, shipped.classes)
    assert described.flops_convention == shipped.flops_convention


def test_flops_count_a_multiply_add_as_one() -> None:
    blocks = {block.name: block for block in ProfileStore().model("resnet18").blocks}
    assert blocks["conv1"].flops == 64 * 112 * 112 * 3 * 7 * 7
    assert blocks["fc"].flops == 512 * 1000


def test_idle_blocks_cost_nothing_and_pass_their_input_through() -> None:
    blocks = ProfileStore().model("inception_v3").blocks
    index = [block.name for block in blocks].index("AuxLogits")
    assert blocks[index].flops == 0
    assert blocks[index].outputs == blocks[index - 1].outputs
    assert blocks[index].peak_activation_bytes == blocks[index].output_bytes
    assert blocks[index].weight_bytes == 4 * 2_565_386 + blocks[index].buffer_bytes


def test_peaks_count_in_place_results_once_and_pooling_indices_too() -> None:
    blocks = {block.name: block for block in ProfileStore().model("vgg16").blocks}
    map_bytes = 64 * 224 * 224 * 4
    assert blocks["features.1"].peak_activation_bytes == map_bytes
    assert blocks["features.2"].peak_activation_bytes == 2 * map_bytes
    # torch's max pool makes int64 indices beside its float32 output, wanted or not.
    assert blocks["features.4"].peak_activation_bytes == map_bytes + map_bytes // 4 * (1 + 2)


def test_peaks_forget_what_is_no_longer_referred_to() -> None:
    class Growing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = x + 1
            h = h + 1
            h = h + 1
            return h.view(-1)

    x = torch.zeros(1000)
    assert model_profile.peak_activation_bytes(Growing(), (x,)) == 3 * x.nbytes


def test_sizes_found_without_data_are_those_of_a_real_run() -> None:
    chain = BlockChain.of("resnet18", build_model("resnet18"))
    live = (sample_input("resnet18", 2),)
    for index, block in enumerate(ProfileStore().model("resnet18").blocks):
        stage = chain.stage(index, index + 1)
        inputs = tuple(tensor.clone() for tensor in live)
        assert model_profile.peak_activation_bytes(stage, inputs) == 2 * block.peak_activation_bytes
        with torch.no_grad():
            live = stage(*live)
        assert [tuple(tensor.shape[1:]) for tensor in live] == [tensor.shape for tensor in block.outputs]


def test_the_batch_may_be_any_one_dimension_and_must_be_one() -> None:
    behind = model_profile._sample_shape((torch.empty(4, 2), torch.empty(4, 3)), "toy block")
    assert behind.shape == (4,)
    with pytest.raises(HwrunError, match=r"output is \(2, 2\) and \(3, 3\) for batches of 2 and 3, expected one dim"):
        model_profile._sample_shape((torch.empty(2, 2), torch.empty(3, 3)), "toy block")


def test_attention_is_counted_with_its_projections_and_products() -> None:
    length, width = 6, 16
    attention = torch.nn.MultiheadAttention(width, 4, batch_first=True).eval()

    class Itself(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.attention(x, x, x, need_weights=False)[0]
            return result

    flops, _ = model_profile._flops(Itself(), (torch.zeros(1, length, width),))
    assert flops == 4 * length * width * width + 2 * length * length * width


def test_trace_writes_the_models_asked_for_and_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["trace", "--model", "mobilenet_v2", "-o", str(tmp_path)]) == 0
    first = (tmp_path / "models/mobilenet_v2.json").read_bytes()
    assert read_profile(tmp_path / "models/mobilenet_v2.json", Model).parameters == 2_236_682
    assert "21 blocks, 2236682 parameters" in capsys.readouterr().out
    # Traced by another test before, or now.
    monkeypatch.setattr(model_profile, "describe_model", described_once)
    assert main(["trace", "--model", "mobilenet_v2", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "models/mobilenet_v2.json").read_bytes() == first
    assert [path.name for path in tmp_path.rglob("*.json")] == ["mobilenet_v2.json"]


def test_trace_refuses_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--model", "vgg61"]) == 2
    assert "did you mean 'vgg16'?" in capsys.readouterr().err
