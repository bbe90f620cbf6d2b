"""What workers said of themselves in records of earlier versions is read as it was meant."""

import json

from hwrun.records import CELLS_NAME, Cell, GpuSample, append_cell, read_run, write_manifest
from paretosim.mode import Mode
from tests.hwrun.test_resuming import RECORDED

# As a sweep with two accelerators wrote it before they were told apart.
WATCHED_BEFORE = """
[{"host": "A", "before": {"throttled_flags": null}, "after": {"throttled_flags": null}, "held_back": [], "samples": [
  {"time_s": 1.0, "cpu_cores": 0.5, "cores_busy": [0.5], "rss_bytes": 1, "interfaces": {"lo": [1, 2]}, "held_back": [],
   "gpus": [
     {"name": "RTX 4090", "busy": 0.9, "memory_bytes": 1, "power_w": 449.0, "temperature_c": 80.0, "frequency_hz": 2e9,
      "held_back": true, "held_back_by": ["its power limit"]},
     {"name": "RTX 4090", "busy": 0.0, "memory_bytes": 1, "power_w": 9.0, "temperature_c": 40.0, "frequency_hz": 2e8,
      "held_back": false, "held_back_by": []}]}]}]
"""


def test_accelerators_of_a_record_that_does_not_tell_them_apart_are_read_in_their_order(tmp_path):
    write_manifest(tmp_path, RECORDED)
    append_cell(tmp_path, Cell(
        plan="alexnet@pi[0:3]+gpu[3:21]/b8/w-/tcp/f32", mode=Mode.named("single"), link_name="unshaped",
        link_asked=None, hosts=("A", "B"), repeat=0, status="done", emulated=False, speed=1.0,
    ))  # fmt: skip
    path = tmp_path / CELLS_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"watched": json.loads(WATCHED_BEFORE)}) + "\n")
    run = read_run(tmp_path)
    (cell,) = run.cells
    gpus = cell.watched[0].samples[0].gpus
    assert gpus == (
        GpuSample(
            name="RTX 4090", busy=0.9, memory_bytes=1, power_w=449.0, temperature_c=80.0, frequency_hz=2e9,
            held_back=True, held_back_by=("its power limit",),
        ),
        GpuSample(
            name="RTX 4090", busy=0.0, memory_bytes=1, power_w=9.0, temperature_c=40.0, frequency_hz=2e8,
            held_back=False,
        ),
    )  # fmt: skip
    assert [(gpu.index, gpu.uuid, gpu.title) for gpu in gpus] == [(None, None, "RTX 4090")] * 2
