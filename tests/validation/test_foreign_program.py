"""Predictions of a program that shares no code with this project, from what its own probe says of its parts.

Nothing is fitted to the times of runs. The program's stages wait for a given time, so what is tested is the rest:
pickling on both sides, collecting chunks, a link as fast as TCP paces it, kernel buffers that hold part of a message or
grow while the program runs, and who waits for whom.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from paretosim.block import Block, Model, TensorShape
from paretosim.calibration import SCHEMA_VERSION, Calibration, DeviceTerms, MessageCost
from paretosim.device import Device
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.prediction import Row, predict
from paretosim.setting import Setting
from paretosim.timing import BatchTiming, BlockTiming, Timing

pytestmark = pytest.mark.timed
PROGRAM = Path(__file__).parent / "foreign" / "split_runtime.py"
BOUND = 0.10
BATCHES, REPEATS = 8, 3
SETTINGS: dict[str, Any] = {
    "batches": BATCHES, "payload_bytes": 200_000, "first_s": 0.12, "second_s": 0.16, "rate_bps": 20e6,
    "send_buffer": None, "receive_buffer": None,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    # As most programs have them; the kernel makes them larger as batches go.
    "sockets as they come": {},
    # Writing and reading hold both workers for as long as the link takes.
    "small buffers": {"send_buffer": 32768, "receive_buffer": 32768},
    # Kernels hold whole messages, so that workers and link overlap.
    "large buffers": {"send_buffer": 4 * 2**20, "receive_buffer": 4 * 2**20},
    # The link is the slowest station, so that all that is written waits for it.
    "slow link": {"rate_bps": 2e6, "payload_bytes": 60_000, "send_buffer": 32768, "receive_buffer": 32768},
    # Stages are shorter than the link takes, and both workers wait for it.
    "short stages": {"first_s": 0.02, "second_s": 0.03, "send_buffer": 32768, "receive_buffer": 32768},
}


def _asked(job: str, settings: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), job, json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _predicted(settings: dict[str, Any], probe: dict[str, float]) -> Row:
    message = TensorShape(shape=(round(probe["message_bytes"]),), dtype="uint8")
    result = TensorShape(shape=(8,), dtype="uint8")
    blocks = tuple(
        Block(
            name=name, flops=1, parameters=0, parameter_bytes=0, buffer_bytes=0, outputs=(output,),
            peak_activation_bytes=1,
        )
        for name, output in (("one", message), ("two", result))
    )  # fmt: skip
    model = Model(
        schema_version=1, name="foreign", classes=1, input=message, flops_convention="none", origin={}, blocks=blocks
    )
    timings = [
        Timing(
            schema_version=1, device=device, model="foreign", kind="measured", how="given",
            batches=(BatchTiming(
                batch=1, blocks=tuple(BlockTiming(name=b.name, value_s=settings[f"{device}_s"]) for b in blocks)
            ),),
        )
        for device in ("first", "second")
    ]  # fmt: skip
    size = probe["message_bytes"]
    calibration = Calibration(
        schema_version=SCHEMA_VERSION, name="foreign", backend="tcp",
        devices={
            "first": DeviceTerms(sending=MessageCost(bytes_per_s=size / probe["dumps_s"])),
            "second": DeviceTerms(receiving=MessageCost(bytes_per_s=size / probe["loads_s"])),
        },
    )  # fmt: skip
    one, two = (Device(schema_version=1, name=name, title=name) for name in ("first", "second"))
    return predict(
        Setting(
            model=model, devices=(one, two), timings=(timings[0], timings[1]), batch=1, splits="interior",
            link=Link(
                schema_version=1, name="paced", rate_bps=probe["rate_bps"], return_rate_bps=probe["rate_bps"],
                one_way_delay_s=0.0, return_delay_s=0.0, header_bytes=0,
            ),
            mode=Mode.named("burst", batches=BATCHES),
            operation=Operation(
                workers="serial", send_buffer_bytes=round(probe["send_buffer_bytes"]),
                receive_buffer_bytes=round(probe["receive_buffer_bytes"]),
            ),
            calibration=calibration,
        )
    ).row(1)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_foreign_program_takes_as_long_as_predicted(case: str) -> None:
    settings = {**SETTINGS, **CASES[case]}
    probe = _asked("probe", settings)
    runs = [_asked("run", settings) for _ in range(REPEATS)]
    row = _predicted(settings, probe)
    assert row.latency_from_start_s is not None
    for name, predicted in (
        ("makespan_s", row.period_s * BATCHES), ("latency_s", row.latency_s),
        ("latency_from_start_s", row.latency_from_start_s),
    ):  # fmt: skip
        measured = statistics.median(run[name] for run in runs)
        assert predicted == pytest.approx(measured, rel=BOUND), (name, probe, runs)


def test_the_program_shares_no_code_with_this_project() -> None:
    imported = {
        line.split()[1].split(".")[0]
        for line in PROGRAM.read_text().splitlines()
        if line.startswith(("import", "from"))
    }
    assert imported <= set(sys.stdlib_module_names)
