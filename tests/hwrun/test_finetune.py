"""Training a head: features once, the rest of the model untouched, and a model with it runs split."""

import os
import re
import resource
import threading

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from hwrun.cli import main
from hwrun.data.cifar10 import read_cifar10
from hwrun.data.finetuning import Features, features_of, share_right, train_head
from hwrun.errors import BadUsageError
from hwrun.machine.steady import steady_environment
from hwrun.models.catalogue import MODEL_NAMES, build_model, catalogue_entry, with_classes
from hwrun.models.cut import BlockChain
from hwrun.models.head import head_name, weighted_reference
from hwrun.models.weights import WeightStore, load_stage
from hwrun.reference import Given, References
from tests.hwrun.tiny_cifar10 import write_binary


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_binary(tmp_path_factory.mktemp("data") / "cifar-10-batches-bin", per_file=16)


def clusters(count=200, seed=0):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    centres = torch.randn(10, 32, generator=torch.Generator().manual_seed(9))
    return Features(centres[labels] + 0.1 * torch.randn(count, 32, generator=draw), labels)


def trained(features, seed=0, epochs=5):
    told = []
    layer = train_head(features, 10, epochs=epochs, learning_rate=0.05, seed=seed, on_epoch=told.append)
    return layer, told


def test_what_can_be_told_apart_is_learnt_and_each_epoch_says_how_well():
    layer, epochs = trained(clusters())
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].validation_top1 >= 0.9
    assert share_right(layer, clusters(seed=5)) >= 0.9


@pytest.mark.parametrize(("scale", "shift"), [(1e-4, 0.0), (1e4, 0.0), (1e-3, 5.0)])
def test_the_scale_of_features_does_not_matter_and_the_layer_takes_them_as_they_are(scale, shift):
    def moved(features):
        return Features(features.rows * scale + shift, features.labels)

    layer, epochs = trained(moved(clusters()))
    assert epochs[-1].validation_top1 >= 0.9
    assert share_right(layer, moved(clusters(seed=5))) >= 0.9


def test_labels_that_say_nothing_are_not_learnt():
    features = clusters()
    shuffled = features.labels[torch.randperm(200, generator=torch.Generator().manual_seed(3))]
    layer, _ = trained(Features(features.rows, shuffled))
    assert share_right(layer, clusters(seed=5)) < 0.5


def test_the_same_seed_trains_the_same_head_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = (trained(clusters(), seed=seed, epochs=2)[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_head_is_the_last_layer_and_its_size_the_number_of_classes(name):
    module = build_model(with_classes(name, 7), meta=True)
    head = module.get_submodule(head_name(module))
    assert head.out_features == 7
    plain = catalogue_entry(name)
    assert len(BlockChain.of(with_classes(name, 7), module)) == len(plain.blocks)
    assert with_classes(name, plain.classes) == name


@pytest.mark.parametrize(
    "name", ["resnet18?classes=", "resnet18?classes=0", "resnet18?classes=1e9", "resnet18?classes=-1"]
)
def test_impossible_numbers_of_classes_are_refused(name):
    with pytest.raises(BadUsageError, match="expected 1 to 100000 classes"):
        catalogue_entry(name)
    with pytest.raises(BadUsageError, match="did you mean 'resnet18'"):
        catalogue_entry("resnet81?classes=10")


def test_features_are_what_the_head_takes(data):
    module = build_model("mobilenet_v2", seed=1)
    images = read_cifar10(data, "test")
    seen = []
    found = features_of(
        module, "classifier.1", images, (2, 0, 1), (3, 224, 224), lambda done, total: seen.append((done, total))
    )
    from hwrun.data.preparing import prepared

    with torch.inference_mode():
        whole = module(prepared(images, (2, 0, 1), (3, 224, 224)))
        assert torch.equal(module.classifier[1](found.rows), whole)
    assert found.labels.tolist() == [2, 0, 1]
    assert seen == [(3, 3)]
    assert not module.classifier[1]._forward_pre_hooks


@pytest.fixture(scope="module")
def tuned(data, tmp_path_factory):
    """Weights that the command wrote, and what it printed."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    path = tmp_path_factory.mktemp("tuned") / "resnet18.safetensors"
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in steady_environment(1).items():
            patch.setenv(name, value)
        code = main([
            "finetune", "--model", "resnet18", "--data", str(data), "-o", str(path), "--epochs", "60", "--lr", "0.02",
            "--threads", "1", "--test-images", "16",
        ])  # fmt: skip
    out.flush()
    assert code == 0, err.getvalue()
    return path, out.buffer.getvalue().decode(), err.getvalue()


@pytest.mark.slow
def test_the_command_trains_says_how_well_and_what_to_do_next(tuned, data):
    path, out, err = tuned
    assert "features are of random weights, and poor" in err
    assert len(re.findall(r"^epoch \d+: loss \d+\.\d{4}, validation top-1 ", out, re.MULTILINE)) == 60
    right = float(re.search(r"^test top-1: ([\d.]+)% of 16 images$", out, re.MULTILINE)[1])
    assert right >= 50  # solid colours; chance is 10
    assert f"hwrun sweep --model resnet18 --weights resnet18={path} --data {data}" in out


@pytest.mark.slow
def test_only_the_head_of_the_model_differs_from_its_backbone(tuned):
    own, backbone = load_file(tuned[0]), build_model("resnet18?classes=10").state_dict()
    assert own.keys() == backbone.keys()
    assert {key for key in own if not torch.equal(own[key], backbone[key])} == {"fc.weight", "fc.bias"}


@pytest.mark.slow
def test_a_model_with_another_head_runs_split_and_is_as_right_as_whole(tuned, data, tmp_path):
    images = read_cifar10(data, "test")
    store = WeightStore(tmp_path)
    given = Given(images, {"resnet18": tuned[0]}, accuracy_images=16)
    reference = References(store, 1, 0, given=given).of("resnet18", 4)
    assert reference.source == "resnet18?classes=10"
    assert len(reference.digests) == 14
    live = reference.inputs
    with torch.inference_mode():
        for first, last in ((0, 9), (9, 14)):
            stage = load_stage(reference.source, first, last, reference.digests[first:last], store)
            live = stage(*(tensor.clone() for tensor in live))
    assert torch.equal(live[0], reference.outputs[0])
    accuracy = reference.accuracy(live)
    assert (accuracy.images, accuracy.unsplit_images) == (4, 16)
    assert accuracy.top1 >= 0.5
    wrong = reference.accuracy((-live[0],))
    assert wrong.correct < 4 - accuracy.correct or wrong.correct == 0


def test_without_weights_or_with_labels_of_other_classes_nothing_is_called_right(data, tmp_path):
    images = read_cifar10(data, "test")
    without = References(WeightStore(tmp_path), 1, 0, given=Given(images)).of("mobilenet_v2", 2)
    assert without.accuracy(without.outputs) is None
    path = tmp_path / "own.safetensors"
    save_file(build_model("resnet18").state_dict(), path)  # a thousand classes
    other = References(WeightStore(tmp_path), 1, 0, given=Given(images, {"resnet18": path})).of("resnet18", 2)
    assert other.accuracy(other.outputs) is None


def test_weights_of_another_model_are_refused_by_name(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(BadUsageError, match=r"has no fc\.weight, expected a state dict of resnet18"):
        weighted_reference("resnet18", path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadUsageError, match="cannot be read as safetensors"):
        weighted_reference("resnet18", path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet19", "--data", "x"], "did you mean"),
        (["--model", "resnet18", "--data", "synthetic"], "nothing to learn from synthetic"),
        (["--model", "resnet18", "--data", "{data}", "--epochs", "0"], "--epochs: got 0, expected 1 or more"),
        (["--model", "resnet18", "--data", "{data}", "--lr", "nan"], "--lr: got nan"),
        (["--model", "resnet18", "--data", "{data}", "--threads", "99999"], "--threads: got 99999, at most "),
        (["--model", "resnet18", "--data", "{data}", "--seed", str(2**63)], "--seed: got 9223372036854775808"),
        (["--model", "resnet18", "--data", "{data}", "-o", "/nowhere/x"], "its folder is not there"),
        (["--model", "resnet18", "--data", "{data}", "-o", "{data}"], "is a folder, expected a file in it"),
        (["--model", "resnet18", "--data", "{data}", "-o", "/proc/x"], "/proc takes no files ("),
        (["--model", "resnet18", "--data", "{data}", "-o", "b" * 300], "cannot be written: File name too long; give"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_computed(options, message, data, tmp_path, capsys):
    output = [] if "-o" in options else ["-o", str(tmp_path / "x.safetensors")]
    assert main(["finetune", *(option.format(data=data) for option in options), *output]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def finetune(data, monkeypatch):
    """The command, which has nothing to compute: with an output, its exit code."""
    features = Features(torch.zeros(2, 1280), torch.zeros(2, dtype=torch.long))
    monkeypatch.setattr("hwrun.data.finetuning.features_of", lambda *_: features)
    monkeypatch.setattr("hwrun.data.finetuning.train_head", lambda *_, **__: torch.nn.Linear(1280, 10))
    for name, value in steady_environment(1).items():
        monkeypatch.setenv(name, value)
    return lambda path: main(
        ["finetune", "--model", "mobilenet_v2", "--data", str(data), "-o", str(path), "--threads", "1"]
    )


def test_weights_that_do_not_fit_on_the_disk_are_one_error_and_leave_what_was_there(finetune, tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # as full as a disk, to whoever writes more
    try:
        code = finetune(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert f"-o {path}: cannot be written: File too large; give another" in capsys.readouterr().err
    assert ([found.name for found in tmp_path.iterdir()], path.read_text()) == (["w.safetensors"], "old")


def test_weights_go_through_a_pipe_and_do_not_take_its_place(finetune, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    taken = []
    reader = threading.Thread(target=lambda: taken.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert finetune(pipe) == 0
    reader.join(timeout=30)
    assert load(taken[0]).keys() == build_model("mobilenet_v2?classes=10", meta=True).state_dict().keys()
    assert pipe.is_fifo()
