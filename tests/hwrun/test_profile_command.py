"""`hwrun profile` as a command of this process: passes are a stand-in's, and so are firmware and NVML."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch

from hwrun.cli import main
from hwrun.machine.steady import steady_environment
from hwrun.models.block_timing import Measured, measured_spans
from paretosim.device import Device
from paretosim.profiles import read_profile, write_profile
from paretosim.timing import BatchTiming, BlockTiming, SpanTiming, Timing
from tests.hwrun.fake_nvml import GPU_NAME, fake_nvml

BLOCK_S = 0.01


class Passes:
    """Stands in for the passes: every block takes `block_s`, always; `between` is told how many are done."""

    def __init__(self) -> None:
        self.block_s = BLOCK_S
        self.between: Callable[[int], object] = lambda done: None
        self.measured: list[int] = []

    def measure(self, chain, inputs, *, repeats, warmup, stopwatch, progress):
        self.measured.append(inputs[0].shape[0])
        for done in range(warmup + repeats):
            self.between(done)
            progress(done + 1, warmup + repeats)
        spans = {(a, b): ((b - a) * self.block_s,) * repeats for a, b in measured_spans(len(chain))}
        return Measured(inputs[0].shape[0], chain.names, ((self.block_s,) * repeats,) * len(chain), spans)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """What `profile` measures with in this process, whose environment is steady and whose threads are left alone."""
    found = Passes()
    for name, value in steady_environment(1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("hwrun.commands.profile._fix_threads", lambda threads: None)
    monkeypatch.setattr("hwrun.models.block_timing.measure_blocks", found.measure)
    return found


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write here what vcgencmd's get_throttled answers; like a Raspberry Pi's it forgets nothing since boot."""
    answer = tmp_path / "throttled"
    command = tmp_path / "bin" / "vcgencmd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=$(cat {answer}) || exit 1\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    answer.write_text("0x50000")
    return answer


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is this processor."""
    runtime = SimpleNamespace(device=torch.device("cpu"))
    monkeypatch.setattr("hwrun.machine.compute_device.runtime_of", lambda name: runtime if name == "cuda" else None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: GPU_NAME)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * 2**30, 24 * 2**30))


def profile(folder: Path, *options: str) -> int:
    return main([
        "profile", "--device-name", "mine", "--model", "mobilenet_v2", "--batch", "1", "--repeats", "3", "--warmup",
        "1", "-o", str(folder), *options,
    ])  # fmt: skip


PATH = "timings/mine/mobilenet_v2.json"


def timing(folder: Path) -> Timing:
    return read_profile(folder / PATH, Timing)


def change(folder: Path, **changes: object) -> bytes:
    """Have the timing be another; its bytes."""
    write_profile(folder / PATH, msgspec.structs.replace(timing(folder), **changes))
    return (folder / PATH).read_bytes()


def test_a_pi_that_was_throttled_long_ago_is_refused_when_it_is_again_between_passes(
    passes: Passes, firmware: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile(tmp_path / "steady") == 0
    passes.between = lambda done: firmware.write_text("0x50004" if done == 0 else "0x50000")
    assert profile(tmp_path / "held back") == 1
    assert "not kept: the processor was held back: throttled, in between" in capsys.readouterr().err
    assert not (tmp_path / "held back").exists()


def test_a_gpu_that_is_held_back_between_passes_is_refused_and_kept_with_a_note_when_forced(
    passes: Passes, cuda: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = {"now": 0x1}  # idle, which is no fault
    nvml = fake_nvml(nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: reasons["now"])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert profile(tmp_path, "--device", "cuda") == 0
    assert timing(tmp_path).conditions["accelerator_held_back"] is False
    passes.between = lambda done: reasons.update(now=0x40 if done == 2 else 0x1)
    assert profile(tmp_path, "--device", "cuda") == 1
    assert "not kept: the accelerator was held back between passes" in capsys.readouterr().err
    assert timing(tmp_path).conditions["accelerator_held_back"] is False
    assert profile(tmp_path, "--device", "cuda", "--force") == 0
    assert timing(tmp_path).conditions["accelerator_held_back"] is True
    assert timing(tmp_path).notes[0].startswith("kept with --force although the accelerator was held back")
    assert len(timing(tmp_path).notes) == 1


@pytest.mark.parametrize(
    "nvml",
    [
        None,
        fake_nvml(
            nvmlDeviceGetName=lambda handle: "another", nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x40
        ),
    ],
)
def test_where_nothing_tells_of_the_gpu_it_is_neither_refused_nor_said_to_have_been_free(
    passes: Passes, cuda: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nvml: object
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert profile(tmp_path, "--device", "cuda") == 0
    assert timing(tmp_path).conditions["accelerator_held_back"] is None


def test_batch_sizes_that_are_not_measured_now_are_kept_and_those_that_are_replaced(
    passes: Passes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile(tmp_path, "--batch", "2,1") == 0
    assert capsys.readouterr().err == ""
    first = timing(tmp_path)
    passes.block_s = 2 * BLOCK_S
    assert profile(tmp_path, "--batch", "4,2", "--repeats", "5") == 0
    path = tmp_path / PATH
    assert capsys.readouterr().err == f"{path}: batch 1 kept\n{path}: batch 2 measured anew\n"
    assert passes.measured == [1, 2, 2, 4]
    found = timing(tmp_path)
    assert [(entry.batch, entry.seconds[0]) for entry in found.batches] == [
        (1, BLOCK_S), (2, 2 * BLOCK_S), (4, 2 * BLOCK_S)
    ]  # fmt: skip
    assert found.batches[0] == first.batches[0]
    assert "the worst of 3 sizes" in str(found.error)
    assert "; 3 to 5 repeats after 1 that were not kept" in found.how
    assert found.conditions["earlier_batches"] == "1"
    assert "earlier_batches" not in first.conditions
    assert profile(tmp_path, "--batch", "8") == 0
    assert f"{path}: batches 1, 2, 4 kept\n" in capsys.readouterr().err


def test_the_error_of_a_timing_is_that_of_its_worst_size_though_it_was_measured_before(
    passes: Passes, tmp_path: Path
) -> None:
    assert profile(tmp_path, "--batch", "1") == 0
    (entry,) = timing(tmp_path).batches
    whole = msgspec.structs.replace(entry.spans[0], samples_s=(0.15, 0.21, 0.27))
    change(tmp_path, batches=(msgspec.structs.replace(entry, spans=(whole, *entry.spans[1:])),))
    assert profile(tmp_path, "--batch", "2") == 0
    error = timing(tmp_path).error
    assert error is not None
    assert error.relative == pytest.approx(0.06 / 0.21, abs=1e-6)
    assert "at batch 1, the worst of 2 sizes" in error.meaning


def test_notes_on_sizes_that_are_kept_are_kept_and_name_them(passes: Passes, tmp_path: Path) -> None:
    assert profile(tmp_path, "--batch", "1") == 0
    change(tmp_path, notes=("kept with --force although it was hot", "in the attic"))
    assert profile(tmp_path, "--batch", "2,4") == 0
    kept = ("kept with --force although batch 1: it was hot", "in the attic")
    assert timing(tmp_path).notes == kept
    change(tmp_path, notes=(*kept, "kept with --force although batch 2: it was cold"))
    assert profile(tmp_path, "--batch", "2") == 0
    assert timing(tmp_path).notes == kept
    assert profile(tmp_path, "--batch", "1") == 0
    assert timing(tmp_path).notes == ("in the attic",)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"kind": "reconstructed"}, [], "kind: there 'reconstructed', here 'measured'"),
        ({"how": "by hand"}, [], "how: there 'by hand', here 'hwrun profile: "),
        ({"conditions": "threads"}, [], "threads: there 'other', here 1"),
        ({"conditions": "torch"}, [], "torch: there 'other', here '"),
        ({"conditions": "accelerator"}, [], "accelerator: there 'other', here None"),
        ({"batches": ()}, [], "blocks: there 1, here 21, or of other names; raw repeats: not all are there"),
        ({"batches": "one repeat"}, [], "raw repeats: not all are there"),
        ({"batches": "no time"}, [], "raw repeats: not all are there"),
        ({}, ["--warmup", "0"], "repeats after 1 that were not kept', here '"),
    ],
)
def test_a_timing_of_other_conditions_is_refused_before_anything_is_measured_unless_it_is_to_be_replaced(
    passes: Passes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    options: list[str],
    message: str,
) -> None:
    assert profile(tmp_path, "--batch", "1") == 0
    if "conditions" in changes:
        changes = {"conditions": {**timing(tmp_path).conditions, str(changes["conditions"]): "other"}}
    if changes.get("batches") == "one repeat":
        changes = {"batches": tuple(msgspec.structs.replace(b, spans=_spans(b, 1.0)) for b in timing(tmp_path).batches)}
    elif changes.get("batches") == "no time":
        changes = {
            "batches": tuple(msgspec.structs.replace(b, spans=_spans(b, 0.0, 0.0)) for b in timing(tmp_path).batches)
        }
    elif "batches" in changes:
        changes = {"batches": (BatchTiming(batch=1, blocks=(BlockTiming(name="all", value_s=1.0),)),)}
    before = change(tmp_path, **changes)
    passes.measured.clear()
    assert profile(tmp_path, "--batch", "2", "--model", "alexnet", "mobilenet_v2", *options) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / PATH}: is of other conditions (" in said
    assert message in said
    assert "lose what it has with --replace" in said
    assert (passes.measured, (tmp_path / PATH).read_bytes()) == ([], before)
    assert not (tmp_path / "timings/mine/alexnet.json").exists()
    assert profile(tmp_path, "--batch", "2", "--replace", *options) == 0
    assert "is replaced, with all batch sizes that it has" in capsys.readouterr().err
    assert [entry.batch for entry in timing(tmp_path).batches] == [2]


def _spans(batch: BatchTiming, *samples_s: float) -> tuple[SpanTiming, ...]:
    return tuple(msgspec.structs.replace(span, samples_s=samples_s) for span in batch.spans)


def test_what_changes_by_the_minute_is_no_other_condition(passes: Passes, tmp_path: Path) -> None:
    assert profile(tmp_path, "--batch", "1") == 0
    for_a_moment = {"load_1min": 99.0, "temperature_c": 99.0, "frequency_hz": 1.0, "steal_s": 9.0, "throttled": True}
    change(tmp_path, conditions={**timing(tmp_path).conditions, **for_a_moment})
    assert profile(tmp_path, "--batch", "2") == 0
    assert [entry.batch for entry in timing(tmp_path).batches] == [1, 2]


def test_the_name_of_a_processor_is_not_given_to_a_gpu_unless_it_is_to_be_replaced(
    passes: Passes, cuda: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "devices/mine.json"
    assert profile(tmp_path, "--title", "mine own") == 0
    write_profile(path, msgspec.structs.replace(read_profile(path, Device), busy_power_w=7.0))
    before = path.read_bytes()
    passes.measured.clear()
    assert profile(tmp_path, "--model", "alexnet", "--device", "cuda") == 2
    assert f"{path}: is of another device (accelerator: there None, here '{GPU_NAME}')" in capsys.readouterr().err
    assert (passes.measured, path.read_bytes()) == ([], before)
    # What a user gave stays where it is the same device.
    assert profile(tmp_path, "--replace") == 0
    assert path.read_bytes() == before
    assert profile(tmp_path, "--replace", "--title", "another") == 0
    assert read_profile(path, Device).title == "another"
    path.write_bytes(before[:50])
    assert profile(tmp_path) == 2
    assert profile(tmp_path, "--replace") == 0
    assert "not whole JSON" in capsys.readouterr().err
    assert profile(tmp_path, "--device", "cuda", "--replace") == 0
    device = read_profile(path, Device)
    assert (device.accelerator, device.memory_bytes, device.busy_power_w) == (GPU_NAME, 24 * 2**30, None)


def test_the_name_of_all_cores_is_not_given_to_fewer(
    passes: Passes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile(tmp_path) == 0
    path = tmp_path / "devices/mine.json"
    device = read_profile(path, Device)
    write_profile(path, msgspec.structs.replace(device, cores=99))
    assert profile(tmp_path) == 2
    assert f"cores: there 99, here {device.cores}" in capsys.readouterr().err
    write_profile(path, msgspec.structs.replace(device, cores=None))  # nobody said how many
    assert profile(tmp_path) == 0
