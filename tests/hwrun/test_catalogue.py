from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hwrun.errors import BadUsageError
from hwrun.models.catalogue import MODEL_NAMES, build_model, catalogue_entry, sample_input
from paretosim.profiles import shipped_directory

PUBLISHED = {
    row["model"]: row for row in csv.DictReader((shipped_directory() / "published/models.csv").read_text().splitlines())
}


def test_it_lists_the_published_models() -> None:
    assert sorted(MODEL_NAMES) == sorted(PUBLISHED)


def test_importing_it_does_not_import_torch() -> None:
    program = "import sys, hwrun.models.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_blocks_and_parameters_are_the_published_ones(name: str) -> None:
    published = PUBLISHED[name]
    assert len(catalogue_entry(name).blocks) == int(published["blocks"])
    model = build_model(name, meta=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == int(published["parameters"])
    assert not model.training


def test_an_unknown_model_is_refused_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(BadUsageError, match=r"got 'resnet-18', expected one of .*vgg16; did you mean 'resnet18'\?"):
        build_model("resnet-18")


def test_a_seed_fixes_the_weights_and_leaves_the_callers_random_state() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (build_model("mobilenet_v2", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["classifier.1.weight"], other["classifier.1.weight"])


def test_given_weights_replace_the_random_ones(tmp_path: Path) -> None:
    own = build_model("mobilenet_v2", seed=5).state_dict()
    save_file(own, tmp_path / "own.safetensors")
    loaded = build_model("mobilenet_v2", weights=tmp_path / "own.safetensors")
    assert all(torch.equal(own[key], tensor) for key, tensor in loaded.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_that_do_not_fit_are_refused_with_their_keys(tmp_path: Path) -> None:
    own = build_model("mobilenet_v2").state_dict()
    own["classifier.9.weight"] = own.pop("classifier.1.weight")
    own["classifier.1.bias"] = torch.zeros(1000)
    save_file(own, tmp_path / "own.safetensors")
    with pytest.raises(BadUsageError) as caught:
        build_model("mobilenet_v2", weights=tmp_path / "own.safetensors")
    message = str(caught.value)
    assert "missing classifier.1.weight" in message
    assert "unexpected classifier.9.weight" in message
    assert "classifier.1.bias is float32 [1000], expected float32 [10]" in message


def test_weights_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    for path in (tmp_path / "broken.safetensors", tmp_path / "absent.safetensors"):
        with pytest.raises(BadUsageError, match="cannot be read as safetensors"):
            build_model("mobilenet_v2", weights=path)
    with pytest.raises(BadUsageError, match="either weights or meta"):
        build_model("mobilenet_v2", weights=tmp_path / "broken.safetensors", meta=True)


def test_sample_inputs_have_the_models_shape_and_follow_the_seed() -> None:
    assert sample_input("inception_v3", 2).shape == (2, 3, 299, 299)
    assert torch.equal(sample_input("alexnet", 1, seed=3), sample_input("alexnet", 1, seed=3))
    assert not torch.equal(sample_input("alexnet", 1, seed=3), sample_input("alexnet", 1, seed=4))
    with pytest.raises(BadUsageError, match="batch: got 0"):
        sample_input("alexnet", 0)
