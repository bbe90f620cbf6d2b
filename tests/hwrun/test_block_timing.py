from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx

from hwrun.cli import main
from hwrun.machine.steady import steady_environment
from hwrun.models.block_timing import (
    CpuStopwatch,
    EventStopwatch,
    Measured,
    measure_blocks,
    measured_spans,
    objections,
    spread,
)
from hwrun.models.catalogue import MODEL_NAMES, catalogue_entry
from hwrun.models.cut import BlockChain, TracedBlock
from paretosim.device import Device
from paretosim.profiles import ProfileStore, read_profile
from paretosim.timing import Timing
from tests.hwrun.test_compute_device import FakeRuntime


class Ticking(torch.nn.Module):
    """Moves a fake clock on by its cost, and changes its input in place."""

    def __init__(self, clock: list[int], cost_ns: int) -> None:
        super().__init__()
        self._clock = clock
        self._cost_ns = cost_ns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._clock[0] += self._cost_ns
        return x.add_(1)


class _Whole(fx.Tracer):
    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Ticking)


def ticking_chain(clock: list[int], costs_ns: list[int]) -> BlockChain:
    module = torch.nn.Sequential(*(Ticking(clock, cost) for cost in costs_ns)).eval()
    blocks = [TracedBlock(f"b{index}", index, index + 1) for index in range(len(costs_ns))]
    return BlockChain(module, _Whole().trace(module), blocks)


def measured(*blocks_s: tuple[float, ...], whole_s: tuple[float, ...]) -> Measured:
    names = tuple(f"b{index}" for index in range(len(blocks_s)))
    return Measured(batch=8, names=names, blocks_s=blocks_s, spans_s={(0, len(names)): whole_s})


def test_blocks_and_spans_get_the_time_that_their_work_took() -> None:
    clock = [0]
    chain = ticking_chain(clock, [5_000, 1_000, 20_000, 4_000, 300, 70])
    x = torch.zeros(8, 2)
    passes = []
    found = measure_blocks(
        chain,
        (x,),
        repeats=3,
        warmup=2,
        stopwatch=CpuStopwatch(lambda: clock[0]),
        progress=lambda done, total: passes.append((done, total)),
    )
    assert found.names == ("b0", "b1", "b2", "b3", "b4", "b5")
    assert found.blocks_s == tuple((cost / 1e9,) * 3 for cost in (5_000, 1_000, 20_000, 4_000, 300, 70))
    assert found.spans_s[0, 6] == pytest.approx((30_370e-9,) * 3)
    assert found.spans_s[2, 6] == pytest.approx((24_370e-9,) * 3)
    assert found.sum_error() == pytest.approx(0)
    assert passes == [(n, 5) for n in range(1, 6)]
    assert torch.equal(x, torch.zeros(8, 2)), "the caller's input was overwritten"


def test_warm_up_passes_are_not_kept() -> None:
    clock = [0]
    chain = ticking_chain(clock, [1_000, 2_000])
    slow_start = itertools.chain([10**9] * 8, itertools.repeat(0))

    def clock_ns() -> int:
        clock[0] += next(slow_start)
        return clock[0]

    found = measure_blocks(chain, (torch.zeros(1),), repeats=2, warmup=2, stopwatch=CpuStopwatch(clock_ns))
    assert max(itertools.chain(*found.blocks_s, *found.spans_s.values())) < 1e-5


def test_an_accelerator_is_timed_by_events_after_its_work_is_done() -> None:
    runtime = FakeRuntime((30.0, 50.0))
    stopwatch = EventStopwatch(runtime)
    for expected in ([0.03, 0.05], [0.03, 0.05]):
        before = runtime.synchronized
        for _ in range(3):
            stopwatch.mark()
        assert runtime.synchronized == before + 1, "what was queued before the first mark is in the first interval"
        assert stopwatch.intervals_s() == pytest.approx(expected)
    assert stopwatch.intervals_s() == []


@pytest.mark.parametrize("blocks", [1, 2, 3, 14, 39])
def test_measured_spans_are_the_whole_and_both_sides_of_inner_cuts(blocks: int) -> None:
    spans = measured_spans(blocks)
    assert spans[0] == (0, blocks)
    assert len(set(spans)) == len(spans)
    assert all(0 <= first < last <= blocks for first, last in spans)
    assert {last for first, last in spans[1:] if first == 0} == {first for first, _ in spans[1:] if first > 0}


def test_the_error_is_the_median_distance_of_block_sums_from_spans() -> None:
    found = Measured(
        batch=1,
        names=("a", "b"),
        blocks_s=((1.0, 1.0, 9.0), (2.0, 2.0, 2.0)),
        spans_s={(0, 2): (2.5, 2.5), (0, 1): (1.0, 1.0), (1, 2): (4.0, 4.0)},
    )
    assert found.span_errors() == pytest.approx({(0, 2): 0.2, (0, 1): 0.0, (1, 2): -0.5})
    assert found.sum_error() == pytest.approx(0.2)


def test_the_headline_error_is_never_below_the_spread_of_the_whole_model() -> None:
    found = measured((1.0,) * 4, (3.0,) * 4, whole_s=(3.0, 4.0, 4.0, 5.0))
    assert found.sum_error() == pytest.approx(0)
    assert found.error() == pytest.approx(spread((3.0, 4.0, 4.0, 5.0))) == pytest.approx(0.125)


def test_steady_repeats_raise_no_objection() -> None:
    found = measured((1.0, 1.02, 0.99, 1.01), (3.0, 3.1, 3.0, 3.0), whole_s=(4.0, 4.1, 4.0, 4.0))
    assert objections(found, 0.1, ()) == []


def test_noise_in_a_block_that_matters_is_an_objection_and_in_a_tiny_one_is_not() -> None:
    noisy = (1.0, 2.0, 3.0, 4.0)
    tiny = tuple(value / 1000 for value in noisy)
    assert objections(measured((5.0,) * 4, tiny, whole_s=(5.0,) * 4), 0.1, ()) == []
    (objection,) = objections(measured((5.0,) * 4, noisy, whole_s=(7.0,) * 4), 0.1, ())
    assert "1 of 3 things that matter spread more than 10%" in objection
    assert "most b1: 60%" in objection


def test_a_processor_that_was_held_back_is_an_objection_that_says_how() -> None:
    steady = measured((1.0, 1.0), whole_s=(1.0, 1.0))
    assert objections(steady, 0.1, ()) == []
    (objection,) = objections(steady, 0.1, ("under-voltage, before", "throttled, in between"))
    assert objection == "the processor was held back: under-voltage, before; throttled, in between"


@given(st.lists(st.floats(1e-6, 10), min_size=2, max_size=30), st.floats(0.1, 10))
def test_spread_is_relative_and_zero_only_without_any(samples: list[float], factor: float) -> None:
    assert spread([value * factor for value in samples]) == pytest.approx(spread(samples), rel=1e-6, abs=1e-9)
    assert spread([samples[0]] * 5) == 0


def test_the_spread_of_a_single_sample_is_unknown_and_so_never_good_enough() -> None:
    assert spread([1.0]) == float("inf")


def profile(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hwrun.cli", "profile", "--device-name", "mine", "--model", "mobilenet_v2"]
    command += ["--batch", "1", "--repeats", "3", "--warmup", "1", "-o", str(output), *options]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_profile_of_several_batch_sizes_is_one_file_with_the_error_of_the_worst(tmp_path: Path) -> None:
    result = profile(tmp_path, "--batch", "2,1", "--force", "--max-spread", "1e-9")
    assert result.returncode == 0, result.stderr
    timing = ProfileStore([tmp_path]).timing("mine", "mobilenet_v2")
    assert [entry.batch for entry in timing.batches] == [1, 2]
    assert [note.split(" although ")[1].split(":")[0] for note in timing.notes] == ["batch 1", "batch 2"]
    assert timing.error is not None
    assert "the worst of 2 sizes" in timing.error.meaning
    assert "for a batch of 1;" in result.stdout
    assert "for a batch of 2;" in result.stdout


@pytest.mark.slow
def test_profile_writes_what_the_predictor_reads(tmp_path: Path) -> None:
    result = profile(tmp_path, "--force", "--max-spread", "1e-9", "--cores", "0")
    assert result.returncode == 0, result.stderr
    assert f"paretosim predict --profiles {tmp_path} --model mobilenet_v2 --devices mine,mine" in result.stdout
    timing = ProfileStore([tmp_path]).timing("mine", "mobilenet_v2")
    assert timing.kind == "measured"
    (batch,) = timing.batches
    assert batch.batch == 1
    assert [block.name for block in batch.blocks] == [b.name for b in catalogue_entry("mobilenet_v2").blocks]
    assert all(len(block.samples_s) == 3 for block in batch.blocks)
    assert [(span.first, span.last) for span in batch.spans] == measured_spans(21)
    assert timing.conditions["cores"] == "0"
    assert "freed memory kept" in str(timing.conditions["allocator"]), "the command did not restart itself steady"
    assert len(timing.notes) == 1
    assert timing.notes[0].startswith("kept with --force although the repeats of")
    device = read_profile(tmp_path / "devices/mine.json", Device)
    assert (device.cores, device.idle_power_w) == (1, None)
    assert device.sources["busy_power_w"] == "not measured"


# As on a Mac, but that its accelerator is this processor: each mark waits for what was launched before it.
APPLE_GPU = """
import sys, torch
from hwrun.cli import main
from hwrun.machine import compute_device
waits = []
compute_device.require_device = lambda name: None
torch.mps.synchronize = lambda: waits.append(len(waits))
class ThisProcessor(compute_device._Mps):
    def __init__(self):
        self.device = torch.device("cpu")
compute_device._Mps = ThisProcessor
code = main(sys.argv[1:])
print("waits:", len(waits))
sys.exit(code)
"""


@pytest.mark.slow
def test_profile_times_an_apple_gpu_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPLE_GPU, "profile", "--device-name", "mac", "--model", "mobilenet_v2", "--force"]
    command += ["--device", "mps", "--batch", "1", "--repeats", "2", "--warmup", "0", "-o", str(tmp_path)]
    environ = {**os.environ, **steady_environment(1)}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    # Of each pass over the blocks, and of each of five spans: before the first mark, at every mark, and at the end.
    assert result.stdout.endswith(f"waits: {2 * (1 + 22 + 1 + 5 * (1 + 2 + 1))}\n")
    assert read_profile(tmp_path / "devices/mac.json", Device).accelerator == "Apple GPU"
    assert ProfileStore([tmp_path]).timing("mac", "mobilenet_v2").conditions["accelerator"] == "Apple GPU"


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an Apple GPU")
def test_profile_on_an_accelerator_that_is_not_there_is_refused(tmp_path: Path) -> None:
    result = profile(tmp_path, "--device", "mps")
    assert result.returncode == 1
    assert "--device mps: torch finds no Apple GPU" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_profile_refuses_noise_and_writes_nothing(tmp_path: Path) -> None:
    result = profile(tmp_path, "--max-spread", "1e-9")
    assert result.returncode == 1
    assert "mobilenet_v2: not kept: the repeats of" in result.stderr
    assert "Stop other work on this device" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_profile_refuses_a_throttled_clock_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "bin" / "vcgencmd"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005 || exit 1\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    output = tmp_path / "profiles"
    refused = profile(output, "--max-spread", "100")
    assert refused.returncode == 1
    because = "the processor was held back: under-voltage, before and after; throttled, before and after"
    assert f"mobilenet_v2: not kept: {because}" in refused.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device-name", "a b"], "name: got 'a b'"),
        (["--device-name", "a", "--repeats", "1"], "--repeats: got 1, expected 2 or more"),
        (["--device-name", "a", "--batch", "8,x"], "--batch: got '8,x', expected whole numbers from 1"),
        (["--device-name", "a", "--batch", "8,8"], "each once, such as 8 or 1,4,8"),
        (["--device-name", "a", "--max-spread", "nan"], "--max-spread: got nan"),
        (["--device-name", "a", "--model", "vgg"], "did you mean 'vgg16'?"),
    ],
)
def test_profile_refuses_bad_usage_before_it_starts(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_shipped_measured_profile_covers_every_model() -> None:
    store = ProfileStore()
    assert store.device("x86-core").cores == 1
    for name in MODEL_NAMES:
        timing: Timing = store.timing("x86-core", name)
        assert timing.kind == "measured"
        assert timing.error is not None
        assert timing.conditions["threads"] == 1
        entry = timing.batches[0]
        assert [block.name for block in entry.blocks] == [block.name for block in store.model(name).blocks]
        assert all(len(block.samples_s) >= 10 for block in entry.blocks)


def test_a_folder_that_takes_no_files_is_refused_before_anything_is_measured(capsys, tmp_path):
    (tmp_path / "file").touch()
    for folder in ("/proc/no", tmp_path / "file"):
        assert main(["profile", "--device-name", "mine", "--model", "alexnet", "-o", str(folder)]) == 2
        assert "takes no files (" in capsys.readouterr().err
