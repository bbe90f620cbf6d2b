"""`hwrun profile` as a command of this process: passes are a stand-in's, and so are firmware and NVML."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hwrun.cli import main
from hwrun.machine.steady import steady_environment
from hwrun.models.block_timing import Measured, measured_spans
from paretosim.profiles import read_profile
from paretosim.timing import Timing
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


def timing(folder: Path) -> Timing:
    return read_profile(folder / "timings/mine/mobilenet_v2.json", Timing)


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
