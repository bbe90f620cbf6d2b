"""Sweeps as processes: what is done stays done whoever is killed, and nothing is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hwrun.namespaces import availability
from hwrun.records import CELLS_NAME, read_run
from paretosim.profiles import ProfileStore

pytestmark = pytest.mark.slow
LIMIT_S = 120


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """A device whose blocks take 2 ms each."""
    folder = tmp_path_factory.mktemp("profiles")
    timings = folder / "timings" / "toy"
    timings.mkdir(parents=True)
    names = [block.name for block in ProfileStore().model("mobilenet_v2").blocks]
    rows = "".join(f"{name},0.002\n" for name in names)
    (timings / "mobilenet_v2.csv").write_text(f"# batch: 2\nblock,seconds\n{rows}")
    return folder


def command(*options):
    return [sys.executable, "-m", "hwrun.cli", "sweep", *options]


def options(profiles, folder, *more, splits="10,14", mode="single", repeats=1):
    return [
        "--emulate", "toy,toy", "--batch", "2", "--splits", splits, "--mode", mode, "--repeats", str(repeats),
        "--batches-per-cell", "4", "--profiles", str(profiles), "-o", str(folder), *more,
    ]  # fmt: skip


def environment(tmp_path):
    """One thread, and temporary files where a test can look for what is left."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)}


def run_sweep(tmp_path, *arguments):
    return subprocess.run(
        command(*arguments), env=environment(tmp_path), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@contextlib.contextmanager
def running_sweep(tmp_path, *arguments):
    process = subprocess.Popen(
        command(*arguments), env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    children = []
    try:
        yield process, children
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LIMIT_S)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def wait_for_cells(folder, count):
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        path = folder / CELLS_NAME
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"{folder} has not got {count} cells")


def assert_all_end(processes):
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def scratch_left(tmp_path):
    return list((tmp_path / "scratch").glob("hwrun-*"))


def test_a_sweep_measures_every_cell_and_leaves_nothing_behind(tmp_path, profiles):
    folder = tmp_path / "run"
    done = run_sweep(
        tmp_path, *options(profiles, folder, "--mode", "paced", "--mode", "burst", "--json", splits="0,21")
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["run"] == str(folder)
    assert len(summary["rows"]) == 6
    run = read_run(folder)
    assert len(run.cells) == run.manifest.cells_planned == 6
    assert run.manifest.timings.keys() == {"toy/mobilenet_v2"}
    for cell in run.cells:
        assert cell.status == "done"
        assert cell.output_check.bitwise_equal
        assert cell.emulated
        assert len(cell.link_measured.rtt_samples_s) >= 5
        assert cell.control_delay_s > 0
        assert cell.load
        assert cell.tcp_info[0]["congestion_control"]
        first, second = cell.stage_targets_s
        for batch in cell.subruns[0].batches:
            assert batch.latency_s >= first + second == pytest.approx(0.042)
            assert batch.stages[0].receive_start_s is None
            for phases, target_s in zip(batch.stages, (first, second), strict=True):
                assert phases.compute_end_s - phases.compute_start_s >= target_s
    assert scratch_left(tmp_path) == []


def test_a_killed_worker_fails_its_cell_and_the_sweep_goes_on_and_a_resumed_one_tries_it_again(tmp_path, profiles):
    folder = tmp_path / "run"
    with running_sweep(tmp_path, *options(profiles, folder, repeats=5)) as (process, children):
        wait_for_cells(folder, 2)
        children += psutil.Process(process.pid).children(recursive=True)
        worker = next(child for child in children if "worker-B" in " ".join(child.cmdline()))
        worker.kill()
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1
        assert_all_end(children)
    cells = read_run(folder).cells
    assert len(cells) == 10
    failed = [cell for cell in cells if cell.status == "failed"]
    assert len(failed) == 1
    assert "worker B was killed by signal 9" in failed[0].reason
    assert "1 of 10 cells failed" in errors
    again = run_sweep(tmp_path, "--resume", str(folder))
    assert again.returncode == 0, again.stderr
    assert len(read_run(folder).cells) == 11
    assert {cell.status for cell in read_run(folder).latest_cells()} == {"done"}


def test_a_killed_orchestrator_takes_its_workers_along_and_its_sweep_is_resumed_without_a_cell_twice(
    tmp_path, profiles
):
    folder = tmp_path / "run"
    with running_sweep(tmp_path, *options(profiles, folder, repeats=4)) as (process, children):
        wait_for_cells(folder, 3)
        children += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert_all_end(children)
    before = read_run(folder).cells
    assert 3 <= len(before) < 8
    assert len(scratch_left(tmp_path)) == 1
    again = run_sweep(tmp_path, "--resume", str(folder))
    assert again.returncode == 0, again.stderr
    after = read_run(folder).cells
    assert after[: len(before)] == before
    assert len(after) == 8
    assert len({cell.cell_id for cell in after}) == 8
    assert scratch_left(tmp_path) == []
    unlike = run_sweep(tmp_path, *options(profiles, folder, "--speed", "2", "--resume", str(folder), repeats=4))
    assert unlike.returncode == 2
    assert "speed: the folder's is 1.0, this one's 2.0" in unlike.stderr
    assert len(read_run(folder).cells) == 8


def test_an_interrupted_sweep_keeps_what_is_done_and_says_how_to_go_on(tmp_path, profiles):
    folder = tmp_path / "run"
    with running_sweep(tmp_path, *options(profiles, folder, repeats=20)) as (process, children):
        wait_for_cells(folder, 1)
        children += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 130
        assert_all_end(children)
    assert f"hwrun sweep --resume {folder}" in errors
    assert {cell.status for cell in read_run(folder).cells} == {"done"}
    assert scratch_left(tmp_path) == []


@pytest.mark.root
@pytest.mark.skipif(availability().how == "none", reason=str(availability().reason))
@pytest.mark.parametrize("sides", [["--sink", "first"], ["--source", "sink"]])
def test_what_crosses_a_shaped_link_is_what_source_and_sink_say(tmp_path, profiles, sides):
    """At 100 ms each way a batch waits once for every crossing."""
    folder = tmp_path / "run"
    name = "both"
    (profiles / "links").mkdir(exist_ok=True)
    (profiles / "links" / f"{name}.json").write_text(
        json.dumps(
            {
                "schema_version": 1, "name": name, "rate_bps": 1e9, "one_way_delay_s": 0.1,
                "return_rate_bps": 1e9, "return_delay_s": 0.1,
            }
        )
    )  # fmt: skip
    done = run_sweep(tmp_path, *options(profiles, folder, "--link", name, *sides, splits="10,21"))
    assert done.returncode == 0, done.stderr
    # At split 21 all is computed on the first device: with the sink there too, nothing crosses.
    expected = (2, 0) if "first" in sides else (2, 2)
    for cell in read_run(folder).cells:
        crossed = expected[0] if "toy[0:10]" in cell.plan else expected[1]
        assert cell.link_measured.medium == "relay"
        assert cell.latency_s() - 0.042 == pytest.approx(0.1 * crossed, abs=0.05)
        assert cell.link_measured.rtt_samples_s[0] == pytest.approx(0.2, abs=0.02)


def test_a_cell_that_cannot_be_done_in_time_is_recorded_as_skipped_and_resumed_with_more(tmp_path, profiles):
    folder = tmp_path / "run"
    done = run_sweep(tmp_path, *options(profiles, folder, "--max-cell-time", "200ms"))
    assert done.returncode == 0, done.stderr
    assert {cell.status for cell in read_run(folder).cells} == {"skipped"}
    assert "--max-cell-time 200ms" in read_run(folder).cells[0].reason
    again = run_sweep(tmp_path, "--resume", str(folder), "--max-cell-time", "10s")
    assert again.returncode == 0, again.stderr
    assert {cell.status for cell in read_run(folder).latest_cells()} == {"done"}


def test_stages_compute_for_real_without_emulation(tmp_path):
    folder = tmp_path / "run"
    done = run_sweep(
        tmp_path, "--splits", "10", "--batch", "1", "--mode", "single", "--repeats", "1", "--batches-per-cell", "3",
        "-o", str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (cell,) = read_run(folder).cells
    assert cell.plan.startswith("mobilenet_v2@x86-core[0:10]+x86-core[10:21]/b1/")
    assert cell.stage_targets_s is None
    assert not cell.emulated
    assert cell.output_check.relative_difference <= 1e-4
    assert "same bits" in done.stdout or "within 1e-4" in done.stdout
    assert Path(folder, "worker-A.log").exists()
