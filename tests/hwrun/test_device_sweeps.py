"""`hwrun sweep --device`: asked of each stage, recorded, and refused at once where a worker has no such device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hwrun.cli import main
from hwrun.machine.compute_device import Accelerator
from hwrun.machine.steady import steady_environment
from hwrun.records import ComputeDevice, Run, read_run
from hwrun.stages.runner import StageRunner
from tests.hwrun.fake_nvml import fake_nvml
from tests.hwrun.test_compute_device import FakeRuntime

Swept = Callable[..., tuple[int, Path]]
COPY_MS, COMPUTE_MS = 1.5, 20.0


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Swept:
    """Runs a small sweep in memory whose stages compute; its exit code and folder."""
    for name, value in steady_environment(1).items():
        monkeypatch.setenv(name, value)

    def sweep(*options: str) -> tuple[int, Path]:
        code = main([
            "sweep", "--backend", "memory", "--batch", "1", "--splits", "8", "--mode", "single", "--repeats", "1",
            "--batches-per-cell", "2", "-o", str(tmp_path / "run"), *options,
        ])  # fmt: skip
        return code, tmp_path / "run"

    return sweep


def measured(result: tuple[int, Path]) -> Run:
    code, folder = result
    assert code == 0
    return read_run(folder)


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find a GPU whose clock is the test's."""

    def fake(name: ComputeDevice, held: int) -> Accelerator | None:
        return None if name == "cpu" else Accelerator(FakeRuntime((COPY_MS, COMPUTE_MS, COPY_MS)), held)

    monkeypatch.setattr("hwrun.worker.available_devices", lambda: ("cpu", "cuda"))
    monkeypatch.setattr("hwrun.stages.deployed.accelerator", fake)
    monkeypatch.setattr("hwrun.stages.deployed.describe_device", lambda name: f"{name}: of a test")


@pytest.mark.usefixtures("with_gpu")
def test_each_stage_computes_on_what_was_asked_for_it_and_the_records_say_so(swept: Swept) -> None:
    run = measured(swept("--device", "cpu,cuda"))
    assert run.manifest.compute_devices == ("cpu", "cuda")
    (cell,) = run.cells
    assert cell.computed_on == ("cpu: of a test", "cuda: of a test")
    assert cell.output_check is not None
    assert cell.output_check.bitwise_equal
    first, second = cell.subrun("single").batches[0].stages
    assert first.copy_in_s is None
    assert second.copy_in_s == pytest.approx(COPY_MS / 1e3)


@pytest.mark.usefixtures("with_gpu")
def test_a_gpu_that_heat_slows_stands_in_the_record_of_the_cell_that_computed_on_it(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    hot = fake_nvml(
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetName=lambda handle: "of a test",
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x20 if handle else 0x1,
    )
    monkeypatch.setitem(sys.modules, "pynvml", hot)
    (cell,) = measured(swept("--device", "cpu,cuda")).cells
    assert [(watch.host, watch.held_back) for watch in cell.watched] == [
        ("A", ()), ("B", ("GPU 1 (of a test): heat, in between",))
    ]  # fmt: skip
    assert {gpu.uuid for watch in cell.watched for gpu in watch.samples[0].gpus} == {"GPU-00000000", "GPU-00000001"}


@pytest.mark.usefixtures("with_gpu")
def test_one_name_is_for_all_and_another_is_another_run(swept: Swept, capsys: pytest.CaptureFixture[str]) -> None:
    run = measured(swept("--device", "cuda"))
    assert run.cells[0].computed_on == ("cuda: of a test",) * 2
    code = main(["sweep", "--resume", str(run.path), *spelled(run), "--device", "cpu"])
    assert code == 2
    assert "compute_devices: the folder's is ('cuda',), this one's ('cpu',)" in capsys.readouterr().err


def spelled(run: Run) -> list[str]:
    words = list(run.manifest.command_line[2:])
    at = words.index("--device")
    return words[:at] + words[at + 2 :]


def test_a_device_that_a_worker_has_not_is_refused_before_anything_is_measured(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hwrun.worker.available_devices", lambda: ("cpu",))
    monkeypatch.setattr(StageRunner, "load", lambda self: pytest.fail("a stage was deployed"))
    code, folder = swept("--device", "cpu,cuda")
    assert code == 2
    err = capsys.readouterr().err
    assert "--device: got cuda for host B, whose worker can compute on cpu; expected one of these" in err
    assert not (folder / "cells.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--device", "tpu"), "--device: got 'tpu', expected one of cpu, cuda, mps"),
        (("--device", "cpu,cpu,cuda"), "--device: got 3 names, expected one for all stages, or 2, one for each"),
        (("--device", "cuda", "--emulate", "rpi4b,rpi4b"), "emulated stages stand in for a device and use none"),
    ],
)
def test_what_cannot_be_is_refused(
    swept: Swept, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    code, _ = swept(*options)
    assert code == 2
    assert message in capsys.readouterr().err
