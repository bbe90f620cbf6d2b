"""Networks named by the user: what they print as, what building them refuses, and the commands that take them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwrun.cli import main
from hwrun.errors import BadUsageError
from hwrun.machine.steady import steady_environment
from hwrun.models.model_source import network_stage, reference_of
from hwrun.models.network import Network, parse_arguments, parse_shape, torchvision_input
from hwrun.models.state_dict import named_tensors
from hwrun.models.weights import WeightStore, load_stage
from hwrun.records import read_run
from hwrun.reference import References
from paretosim.block import Model
from paretosim.profiles import ProfileStore, read_profile
from paretosim.timing import Timing

SMALL = "tests.hwrun.small_networks"
UNET = Network(reference=f"{SMALL}:UNet", input_shape=(3, 16, 16), arguments={"width": 4})
UNET_OPTIONS = ["--module", f"{SMALL}:UNet", "--input", "3x16x16", "--arg", "width=4"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def test_importing_it_does_not_import_torch() -> None:
    program = "import sys, hwrun.models.model_source, hwrun.commands.network_options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


literals = st.one_of(st.integers(), st.booleans(), st.none(), st.text(), st.tuples(st.integers(), st.text()))


@given(
    st.lists(st.integers(1, 999), min_size=1, max_size=4).map(tuple),
    st.dictionaries(st.sampled_from(["width", "classes", "kind"]), literals),
    st.none() | st.integers(1, 99),
)
def test_a_network_parses_as_what_it_prints(shape, arguments, most) -> None:  # type: ignore[no-untyped-def]  # hypothesis's own
    network = Network(reference="nets.unet:build", input_shape=shape, arguments=arguments, max_blocks=most)
    assert Network.parse(str(network)) == network
    assert " " not in str(network)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nets.unet", "expected package.module:factory"),
        ("nets/unet.py:build?input-shape=3x4x4", "expected package.module:factory"),
        ("nets.unet:build", r"expected package\.module:factory\?input-shape=3x224x224"),
        ("nets.unet:build?input-shape=3xx4", "input: got '', expected whole numbers"),
        ("nets.unet:build?input-shape=3x0x4", r"input: got \[3, 0, 4\], expected positive sizes"),
        ("nets.unet:build?input-shape=3x4x4&max-blocks=0", "max blocks: got 0, expected 1 or more"),
        ("nets.unet:build?input-shape=3x4x4&a-b=0", "argument: got 'a-b'"),
        ("torchvision:vit_b_16?input-shape=3x4x4&weights=DEFAULT", "argument: got weights, which would fetch them"),
    ],
)
def test_a_network_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadUsageError, match=message):
        Network.parse(text)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere.net:build", "module: nowhere.net: No module named 'nowhere'; expected a module that Python finds"),
        (f"{SMALL}:faling", "has no 'faling'; did you mean 'failing'"),
        (f"{SMALL}:number", "got a int, expected a factory to call"),
        (f"{SMALL}:failing", "raised RuntimeError: no such checkpoint; expected .*failing.. to return"),
        (f"{SMALL}:Returns", "raised TypeError: .*missing 1 required positional argument.*--arg KEY=VALUE"),
        (f"{SMALL}:not_a_module", "returned a int, expected a torch.nn.Module"),
        ("torchvision:vit_b_61", "got 'vit_b_61', expected a model of torchvision.*did you mean 'vit_b_16'"),
    ],
)
def test_what_does_not_build_is_refused_with_the_reason(reference: str, message: str) -> None:
    with pytest.raises(BadUsageError, match=message):
        Network(reference=reference, input_shape=(3, 8, 8)).build()


def test_a_seed_fixes_the_weights_and_leaves_the_callers_random_state() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one, again, other = (UNET.build(seed=seed).state_dict()["head.weight"] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_torchvision_says_what_its_images_are_and_no_weights_are_fetched() -> None:
    assert torchvision_input("vit_b_16") == (3, 224, 224)
    assert torchvision_input("inception_v3") == (3, 299, 299)
    assert torchvision_input("fcn_resnet50") == (3, 520, 520)
    network = Network(reference="torchvision:lraspp_mobilenet_v3_large", input_shape=(3, 64, 64))
    module = network.build(meta=True)
    assert all(tensor.is_meta for tensor in module.parameters())
    chain = network.chain(module)
    assert [c.sample.shape for c in chain.carried(len(chain))] == [(21, 64, 64)]


def test_arguments_are_literals_or_text() -> None:
    assert parse_arguments(["a=1", "b=gelu", "c=(1, 2)", "d=true", "e='1'"]) == {
        "a": 1,
        "b": "gelu",
        "c": (1, 2),
        "d": True,
        "e": "1",
    }
    for wrong in ("a", "=1", "a b=1"):
        with pytest.raises(BadUsageError, match="expected KEY=VALUE"):
            parse_arguments([wrong])
    with pytest.raises(BadUsageError, match="got a twice"):
        parse_arguments(["a=1", "a=2"])
    assert parse_shape("3X224x224") == (3, 224, 224)


def test_only_what_the_user_allows_is_built() -> None:
    with pytest.raises(BadUsageError, match=rf"network {SMALL}:UNet: is not allowed.*Add --allow-module {SMALL}:UNet"):
        network_stage(str(UNET), 0, 1, allowed=())
    resnet = ProfileStore().model("resnet18")
    assert reference_of(resnet, ()) == "resnet18"


def test_a_stage_that_gets_its_weights_leaves_the_next_one_alone() -> None:
    allowed = (UNET.reference,)
    first = network_stage(str(UNET), 0, 1, allowed)
    first.to_empty(device="cpu")
    again = network_stage(str(UNET), 0, 1, allowed)
    assert all(tensor.is_meta for tensor in named_tensors(again).values())


def test_a_stored_network_gives_its_stages_their_own_weights(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    reference = References(store, threads=1, seed=5, allowed=[UNET.reference]).of(str(UNET), 2)
    count = len(reference.digests)
    for cut in range(count + 1):
        live = reference.inputs
        for first, last in ((0, cut), (cut, count)):
            stage = load_stage(str(UNET), first, last, reference.digests[first:last], store, [UNET.reference])
            assert not any(tensor.is_meta for tensor in named_tensors(stage).values())
            live = stage(*(tensor.clone() for tensor in live))
        assert all(torch.equal(a, b) for a, b in zip(live, reference.outputs, strict=True))
    with pytest.raises(BadUsageError, match="is not allowed on this host"):
        load_stage(str(UNET), 0, 1, reference.digests[:1], store)
    with pytest.raises(BadUsageError, match="is not allowed on this host"):
        References(store, threads=1, seed=5).of(str(UNET), 2)


@pytest.mark.slow
def test_a_sweep_runs_a_network_that_is_allowed_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["trace", *UNET_OPTIONS, "--name", "toy", "-o", str(tmp_path)]) == 0
    options = ["sweep", "--local", "--profiles", str(tmp_path), "--model", "toy", "--splits", "2", "--mode", "single"]
    options += ["--batch", "2", "--repeats", "1", "--batches-per-cell", "2", "-o", str(tmp_path / "run")]
    assert main(options) == 2
    assert f"Add --allow-module {UNET.reference}" in capsys.readouterr().err
    monkeypatch.chdir(Path(__file__).parents[2])  # where workers, which are processes, find the module
    for name, value in steady_environment(1).items():
        monkeypatch.setenv(name, value)
    assert main([*options, "--allow-module", UNET.reference]) == 0, capsys.readouterr().err
    (cell,) = read_run(tmp_path / "run").cells
    assert cell.status == "done"
    assert cell.output_check is not None
    assert cell.output_check.bitwise_equal


def test_trace_and_profile_take_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["-o", str(tmp_path)]
    assert main(["trace", *UNET_OPTIONS, "--name", "toy", *output]) == 0
    path = tmp_path / "models/toy.json"
    first = path.read_bytes()
    model = read_profile(path, Model)
    assert model.origin["network"] == str(UNET)
    assert [len(block.outputs) for block in model.blocks] == [1, 2, 2, 1, 1]
    assert model.parameters == sum(tensor.numel() for tensor in UNET.build().parameters())
    assert "4 cuts between them, 2 of several tensors" in capsys.readouterr().out
    assert main(["trace", *UNET_OPTIONS, "--name", "toy", *output]) == 0
    assert path.read_bytes() == first
    with pytest.raises(BadUsageError, match="is not allowed on this host"):
        reference_of(model, ())
    assert reference_of(model, [UNET.reference]) == str(UNET)
    # In a process of its own, since profiling fixes that process's threads.
    profile = [sys.executable, "-m", "hwrun.cli", "profile", *UNET_OPTIONS, "--name", "toy", "--device-name", "box"]
    timed = subprocess.run(
        [*profile, *output, "--repeats", "2", "--batch", "2", "--force"],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert timed.returncode == 0, timed.stderr
    timing = read_profile(tmp_path / "timings/box/toy.json", Timing)
    assert [block.name for block in timing.batches[0].blocks] == [block.name for block in model.blocks]


def test_a_network_is_timed_only_as_it_was_traced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = ["profile", *UNET_OPTIONS, "--name", "toy", "--device-name", "box", "-o", str(tmp_path)]
    assert main(profile) == 2
    assert "write it first: hwrun trace --module" in capsys.readouterr().err
    assert main(["trace", *UNET_OPTIONS, "--name", "toy", "--max-blocks", "2", "-o", str(tmp_path)]) == 0
    assert len(read_profile(tmp_path / "models/toy.json", Model).blocks) == 2
    assert main(profile) == 2
    assert "give the same options, or write it anew" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--module", f"{SMALL}:UNet"], "--input: is missing"),
        (["--arg", "width=4"], "--arg: goes with --module or --torchvision"),
        (["--torchvision", "resnet18", "--input", "3x64x64"], "whose blocks the catalogue lists"),
        (["--module", f"{SMALL}:UNet", "--input", "3x8x8", "--name", "a b"], "--name: got 'a b'"),
        (["--module", f"{SMALL}:UNet", "--input", "3x8x8", "--model", "vgg16"], "names models of the catalogue"),
        (["--module", f"{SMALL}:ValueBranch", "--input", "4"], "`if h.sum() > 0:`"),
        (
            ["--module", f"{SMALL}:UNet", "--input", "4"],
            "cannot take an input of 4, one float32 tensor: RuntimeError: ",
        ),
        (["--module", f"{SMALL}:failing", "--input", "4"], "raised RuntimeError: no such checkpoint"),
        (["--module", "nowhere.net:build", "--input", "4"], "No module named 'nowhere'"),
    ],
)
def test_trace_refuses_with_bad_usage(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
