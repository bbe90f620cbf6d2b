"""Sweeps: what is done stays done whoever is killed, and nothing is left behind.

Starting a worker costs an import of torch, so only what is about processes starts them: a whole sweep, and those in
which somebody is killed or interrupted. The others have their workers as threads of this process, behind the same
sockets and in the same namespaces, and so do resumed sweeps.
"""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from msgspec import structs
from PIL import Image
from safetensors.torch import save_file

from hwrun import worker_client
from hwrun.cli import main
from hwrun.data.opening import open_images
from hwrun.data.preparing import correct, prepared
from hwrun.errors import TimedOutError
from hwrun.feeding import feed
from hwrun.local import testbed as local_testbed
from hwrun.local import workers as local_workers
from hwrun.local.namespaces import availability
from hwrun.local.workers import LocalWorkers
from hwrun.machine.steady import steady_environment, usable_cores
from hwrun.models.catalogue import build_model
from hwrun.models.weights import WeightStore
from hwrun.probing import link_probes
from hwrun.records import CELLS_NAME, MANIFEST_NAME, append_cell, clock_offset, read_run
from hwrun.sweeps import bench, sweep
from hwrun.wire.address import Address
from hwrun.wire.sockets import listen
from hwrun.worker import Worker
from hwrun.worker_client import WorkerClient
from paretosim.profiles import ProfileStore
from tests.hwrun import tiny_cifar10
from tests.hwrun.descendants import relays
from tests.soak.kills import SWEEP

pytestmark = pytest.mark.slow
LIMIT_S = 120
# A sweep whose worker B dies in the third cell: when it is deployed and primed, and none of its batches has been sent;
# and whose worker A dies between the fourth and the fifth.
IN_THE_THIRD_CELL_AND_BEFORE_THE_FIFTH = """
import itertools, os, psutil
import hwrun.sweeps.bench as bench
from tests.hwrun.descendants import running
feeds, measures, feed, measure = itertools.count(1), itertools.count(1), bench.feed, bench.Bench.measure
def kill(name):
    (worker,) = running(name, psutil.Process().children(recursive=True))
    worker.kill()
    return worker
def feed_without_b(*arguments, **options):
    if next(feeds) == 3:
        kill("worker-B")
    return feed(*arguments, **options)
def measure_without_a(*arguments):
    if next(measures) == 5:
        os.waitid(os.P_PID, kill("worker-A").pid, os.WEXITED | os.WNOWAIT)  # until its last thread has ended
    return measure(*arguments)
bench.feed, bench.Bench.measure = feed_without_b, measure_without_a
"""
# Of a transfer that a probe measures a rate by; what a longer one tells, test_probe.py has.
BULK_BYTES = 400_000
SHORT_TRANSFERS = f"import hwrun.worker_client as client; client.bulk_bytes = lambda link: {BULK_BYTES}; "
# As above, but B is stopped and not killed, in the midst of the third cell, whose time is over soon.
STOPPED_IN_THE_THIRD_CELL = """
import itertools, psutil
import hwrun.orchestrator as orchestrator, hwrun.sweeps.bench as bench
from tests.hwrun.descendants import running
feeds, feed = itertools.count(1), bench.feed
def feed_without_b(*arguments, **options):
    if next(feeds) == 3:
        running("worker-B", psutil.Process().children(recursive=True))[0].suspend()
    return feed(*arguments, **options)
bench.feed, bench._LEAST_PATIENCE_S = feed_without_b, 1.0
orchestrator._PING_LIMIT_S = 2.0
"""
# Well below what waiting for a batch that never comes takes: three times a cell's bound.
AT_ONCE_S = 30
# One way over the link `far`: far more than what a busy machine adds to a batch.
FAR_S = 0.08
PLAN = "mobilenet_v2@toy[0:8]+toy[8:14]+toy[14:21]/b2/w-/tcp/f32"
needs_namespaces = pytest.mark.skipif(availability().how == "none", reason=str(availability().reason))


class ThreadedProcess:
    """A serving worker where `LocalWorkers` expects its process."""

    stdout = None

    def __init__(self, worker):
        self._thread = threading.Thread(target=worker.serve, daemon=True)
        self._thread.start()

    def poll(self):
        return None if self._thread.is_alive() else 0

    def wait(self, timeout=None):
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("worker", timeout)
        return 0


class ThreadedWorkers(LocalWorkers):
    """Each worker's threads are born on its host, so its sockets are where a process's would be."""

    def _start(self, hosts):
        for host in hosts:
            is_loopback = self._testbed.outside(None) == "loopback"
            with host.entered():
                control = listen(self._control_address(host))
                data = listen(Address(host=host.address(None) if is_loopback else "0.0.0.0"))
                worker = Worker(
                    control, data, credentials=self.credentials, store=WeightStore(self.folder / "weights"),
                    threads=self._threads, once=True, conditions={"threads": self._threads}, log=lambda line: None,
                )  # fmt: skip
                process = ThreadedProcess(worker)
            client = WorkerClient.dial(host.name, self._control_address(host), self.credentials)
            self._running[host.name] = local_workers._Running(process, client)


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """A device whose blocks take 2 ms each, and a link of FAR_S each way."""
    folder = tmp_path_factory.mktemp("profiles")
    timings = folder / "timings" / "toy"
    timings.mkdir(parents=True)
    names = [block.name for block in ProfileStore().model("mobilenet_v2").blocks]
    rows = "".join(f"{name},0.002\n" for name in names)
    (timings / "mobilenet_v2.csv").write_text(f"# batch: 2\nblock,seconds\n{rows}")
    link = {"rate_bps": 1e9, "one_way_delay_s": FAR_S, "return_rate_bps": 1e9, "return_delay_s": FAR_S}
    (folder / "links").mkdir()
    (folder / "links" / "far.json").write_text(json.dumps({"schema_version": 1, "name": "far", **link}))
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Where all sweeps put temporary files, so that what is left can be seen."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def in_this_process(scratch):
    """Sweeps of this process are steady (so that they do not restart it) and have threaded workers."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in steady_environment(1).items():
            patch.setenv(name, value)
        patch.setattr(tempfile, "tempdir", str(scratch))
        patch.setattr(local_workers, "LocalWorkers", ThreadedWorkers)
        # What a sweep of sizes, messages after pauses and a long transfer do with more time, test_probe.py has.
        patch.setattr(link_probes, "ECHO_S", 0.4)
        patch.setattr(worker_client, "RESTED_S", 1.0)
        patch.setattr(worker_client, "bulk_bytes", lambda link: BULK_BYTES)
        yield


def swept(*arguments):
    """Exit code, stdout and stderr of a sweep in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["sweep", *map(str, arguments)])
    out.flush()
    return code, out.buffer.getvalue().decode(), err.getvalue()


def options(profiles, folder, *more, splits="10,14", mode="single", repeats=1):
    return [
        "--emulate", "toy,toy", "--batch", "2", "--splits", splits, "--mode", mode, "--repeats", str(repeats),
        "--batches-per-cell", "4", "--profiles", str(profiles), "-o", str(folder), *more,
    ]  # fmt: skip


@contextlib.contextmanager
def running_sweep(scratch, *arguments, first=""):
    """A sweep as a process, which does something else first, and a list to note its descendants in."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{first}{SWEEP}", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
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


def wait_until(holds, what):
    deadline_s = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s, f"{what} has not come"
        time.sleep(0.02)


def lines(folder):
    path = folder / CELLS_NAME
    return path.read_bytes().count(b"\n") if path.exists() else 0


def assert_all_end(processes):
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def left_in(scratch):
    return list(scratch.glob("hwrun-*"))


@pytest.fixture(scope="module")
def finished(in_this_process, profiles, scratch, tmp_path_factory):
    """The folder of one finished sweep, which several tests look at, and what it printed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    code, out, err = swept(
        *options(profiles, folder, "--mode", "paced", "--mode", "burst", "--json", splits="0,21")
    )  # fmt: skip
    assert code == 0, err
    return folder, out, err


def test_a_sweep_measures_every_cell_once_and_leaves_nothing_behind(finished, scratch):
    run = read_run(finished[0])
    assert len(run.cells) == len(run.latest_cells()) == run.manifest.cells_planned == 6
    assert run.manifest.timings.keys() == {"toy/mobilenet_v2"}
    found = run.manifest.qdisc.split("; ")
    assert {entry.split()[0] for entry in found} == {"A", "B"}
    if availability().how != "none":
        assert "B relayed1: qdisc noqueue 0:" in found
    for cell in run.cells:
        assert cell.status == "done"
        assert cell.output_check.bitwise_equal
        assert cell.emulated
        assert len(cell.link_measured.rtt_samples_s) >= 5
        assert cell.control_delay_s > 0
        assert cell.load
        for watch in cell.watched:
            assert watch.samples[-1].rss_bytes > 0
            assert {"frequency_hz", "throttled"} <= watch.before.keys() & watch.after.keys()
        assert {watch.host for watch in cell.watched} == {"A", "B"}
        assert cell.tcp_info[0]["congestion_control"]
        first, second = cell.stage_targets_s
        for batch in cell.subruns[0].batches:
            assert batch.latency_s >= first + second == pytest.approx(0.042)
            assert batch.stages[0].receive_start_s is None
            for phases, target_s in zip(batch.stages, (first, second), strict=True):
                assert phases.compute_end_s - phases.compute_start_s >= target_s
    assert left_in(scratch) == []


def test_its_json_has_a_row_a_plan_and_mode_and_each_cell_a_line_on_stderr(finished):
    folder, out, err = finished
    summary = json.loads(out)
    assert summary["run"] == str(folder)
    assert (summary["schema_version"], len(summary["rows"])) == (1, 6)
    assert sum(line.startswith("done: mobilenet_v2@toy") for line in err.splitlines()) == 6


def test_each_link_is_probed_before_its_first_cell_and_after_its_last(finished):
    run = read_run(finished[0])
    links = {cell.link_name for cell in run.cells}
    assert sorted((probe.link_name, probe.moment) for probe in run.probes) == sorted(
        (link, moment) for link in links for moment in ("before", "after")
    )
    for probe in run.probes:
        assert probe.measured.echo[0].size_bytes == 64
        assert {sample.pause_s for sample in probe.measured.rested} == {0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2}
        assert {clock.worker for clock in probe.clocks} == {"A", "B"}
        assert all(clock_offset(clock.exchanges).error_s < 5 for clock in probe.clocks)
    # Cells repeat what the probe before them said of the link, and not its raw sweep of sizes.
    before = {probe.link_name: probe.measured for probe in run.probes if probe.moment == "before"}
    assert all(cell.link_measured == before[cell.link_name].in_brief() for cell in run.cells)


def test_a_folder_that_holds_a_run_is_not_measured_into_again(finished, profiles):
    code, _, err = swept(*options(profiles, finished[0]))
    assert code == 2
    assert "holds a run already; resume it" in err
    assert len(read_run(finished[0]).cells) == 6


def test_a_finished_sweep_resumed_shows_its_table_and_starts_no_worker(finished, monkeypatch):
    monkeypatch.setattr(local_workers, "LocalWorkers", lambda *_, **__: pytest.fail("started workers"))
    code, out, err = swept("--resume", finished[0])
    assert code == 0, err
    assert "same bits" in out
    assert len(read_run(finished[0]).cells) == 6


def test_a_sweep_is_not_resumed_under_other_conditions(finished, profiles):
    code, _, err = swept(*options(profiles, finished[0], "--speed", "2", "--resume", finished[0], splits="0,21"))
    assert code == 2
    assert "speed: the folder's is 1.0, this one's 2.0" in err
    assert len(read_run(finished[0]).cells) == 6


def test_when_the_time_is_over_no_cell_is_started_and_the_rest_is_resumed(in_this_process, profiles, tmp_path):
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        # A clock on which every cell takes 100 s: after the second, 150 s are over.
        patch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: 100.0 * lines(folder)))
        code, _, err = swept(*options(profiles, folder, "--max-time", "150s", repeats=2))
    assert code == 0, err
    first = read_run(folder)
    assert len(first.cells) == 2
    assert "--max-time is over; 2 cells are left. Go on with: hwrun sweep --resume" in err
    # The links of what was measured are probed after it all the same.
    assert [probe.moment for probe in first.probes] == ["before", "after"]
    code, _, err = swept("--resume", folder)
    assert code == 0, err
    run = read_run(folder)
    assert len(run.cells) == len(run.latest_cells()) == 4
    assert {cell.status for cell in run.cells} == {"done"}


def test_a_time_that_is_over_before_the_first_cell_leaves_nothing_and_says_what_to_do(
    in_this_process, profiles, scratch, tmp_path
):
    folder = tmp_path / "run"
    code, _, err = swept(*options(profiles, folder, "--max-time", "0s"))
    assert code == 1
    assert "nothing was measured, and all 2 cells are left. Start it again with a longer --max-time" in err
    assert "manifest" not in err
    assert not folder.exists()
    assert left_in(scratch) == []


def test_a_time_that_is_over_before_the_first_cell_of_a_begun_run_is_no_success(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "run")
    (folder / "cells.jsonl").unlink()  # as a sweep that was killed in its first cell has left it
    code, out, err = swept("--resume", folder, "--max-time", "0s")
    assert (code, out) == (1, "")
    assert f"all 6 cells are left. Go on with: hwrun sweep --resume {folder} --max-time …" in err


def test_labelled_images_cross_the_pipeline_and_the_record_says_how_many_are_right(in_this_process, profiles, tmp_path):
    data, weights, folder = tmp_path / "cifar-10-batches-bin", tmp_path / "w.safetensors", tmp_path / "run"
    tiny_cifar10.write_binary(data)
    save_file(build_model("mobilenet_v2", seed=4).state_dict(), weights)
    given = ["--data", str(data), "--weights", f"mobilenet_v2={weights}", "--accuracy-images", "12"]
    code, out, err = swept(*options(profiles, folder, *given))
    assert code == 0, err
    run = read_run(folder)
    assert run.manifest.data.startswith(f"{data} (CIFAR-10, test) ")
    assert run.manifest.weights.keys() == {"mobilenet_v2"}
    for cell in run.cells:
        assert cell.output_check.bitwise_equal
        assert (cell.accuracy.images, cell.accuracy.unsplit_images) == (2, 12)
    assert re.search(r"top-1 of mobilenet_v2: \d+\.\d% of 12 images, by the unsplit model", out)
    save_file(build_model("mobilenet_v2", seed=5).state_dict(), weights)
    code, _, err = swept("--resume", folder)
    assert code == 2
    assert "weights mobilenet_v2: the folder's is" in err
    for wrong in ("resnet18=x", f"mobilenet_v2={tmp_path}/no", str(weights)):
        code, _, err = swept(*options(profiles, tmp_path / "no", "--weights", wrong))
        assert code == 2
        assert f"--weights: got {wrong!r}" in err


def test_images_of_folders_cross_the_pipeline_to_a_head_of_as_many_classes(in_this_process, profiles, tmp_path):
    data, weights, folder = tmp_path / "animals", tmp_path / "w.safetensors", tmp_path / "run"
    for number, name in enumerate(("ant/a.png", "ant/b.jpg", "bee/a.bmp", "cat/a.png", "cat/b.png")):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 30), (50 * number, 200, 255 - 50 * number)).save(data / name)
    module = build_model("mobilenet_v2?classes=3", seed=4)
    save_file(module.state_dict(), weights)
    given = ["--data", str(data), "--weights", f"mobilenet_v2={weights}", "--accuracy-images", "5"]
    code, _, err = swept(*options(profiles, folder, *given))
    assert code == 0, err
    run = read_run(folder)
    images = open_images(str(data))
    assert run.manifest.data == f"{data} {images.identity}"
    with torch.inference_mode():
        right = correct(module(prepared(images, range(5), (3, 224, 224))), images.labels)
    for cell in run.cells:
        assert cell.output_check.bitwise_equal
        assert (cell.accuracy.images, cell.accuracy.unsplit_images) == (2, 5)
        assert cell.accuracy.unsplit_correct == right
    (data / "cat" / "b.png").unlink()
    code, _, err = swept("--resume", folder)
    assert (code, "data: the folder's is" in err) == (2, True), err


def test_two_sweeps_do_not_measure_into_one_folder_at_once(finished):
    with sweep._held(finished[0]):
        code, _, err = swept("--resume", finished[0])
    assert code == 2
    assert "another sweep is measuring into it" in err


def test_cells_whose_output_is_wrong_are_failed_and_the_command_with_them(
    in_this_process, profiles, tmp_path, monkeypatch
):
    monkeypatch.setattr("hwrun.reference.RELATIVE_LIMIT", -1.0)  # then even the same bits are too far off
    code, _, err = swept(*options(profiles, tmp_path / "run"))
    assert code == 1
    cells = read_run(tmp_path / "run").latest_cells()
    assert {cell.status for cell in cells} == {"failed"}
    assert (
        f"hwrun: 2 of 2 cells failed, the first because {cells[0].reason}; {cells[0].remedy}. Try them again with:"
        f" hwrun sweep --resume {tmp_path / 'run'}\n"
    ) in err


def test_a_sweep_that_ends_before_anything_is_measured_leaves_no_folder(
    in_this_process, profiles, tmp_path, monkeypatch
):
    folder = tmp_path / "run"

    def interrupted(*_):
        (folder / "worker-A.log").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep.Sweep, "_manifest", interrupted)
    code, _, err = swept(*options(profiles, folder))
    assert (code, "nothing was measured yet" in err) == (130, True)
    assert not folder.exists()
    folder.mkdir()
    (folder / "worker-A.log").write_text("why it did not start")
    sweep._remove_unused(folder)
    assert (folder / "worker-A.log").exists()


def test_a_folder_that_cannot_be_made_is_bad_usage(in_this_process, profiles, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = swept(*options(profiles, tmp_path / "file" / "run"))
    assert code == 2
    assert "cannot be made: Not a directory" in err


def test_a_full_disk_ends_the_sweep_with_what_to_do_and_what_was_written_is_kept(
    in_this_process, profiles, scratch, tmp_path, monkeypatch
):
    written = []

    def append_until_full(folder, cell):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(cell)
        append_cell(folder, cell)

    monkeypatch.setattr(sweep, "append_cell", append_until_full)
    code, _, err = swept(*options(profiles, tmp_path / "run"))
    assert code == 1
    assert "cannot be written: No space left on device" in err
    assert f"hwrun sweep --resume {tmp_path / 'run'}" in err
    assert len(read_run(tmp_path / "run").cells) == 1
    assert left_in(scratch) == []


def test_a_disk_that_is_full_before_the_first_cell_leaves_nothing_to_resume(
    in_this_process, profiles, tmp_path, monkeypatch
):
    def full(folder, manifest):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sweep, "write_manifest", full)
    code, _, err = swept(*options(profiles, tmp_path / "run"))
    assert code == 1
    assert "cannot be written: No space left on device; nothing was measured yet" in err
    assert "--resume" not in err
    assert not (tmp_path / "run").exists()


def test_cells_that_cannot_be_done_in_time_are_skipped_without_a_worker_and_resumed_with_more_time(
    in_this_process, profiles, tmp_path
):
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_workers, "LocalWorkers", lambda *_, **__: pytest.fail("started workers"))
        code, _, err = swept(*options(profiles, folder, "--max-cell-time", "200ms"))
    assert code == 1
    run = read_run(folder)
    assert {cell.status for cell in run.cells} == {"skipped"}
    assert "--max-cell-time 200ms" in run.cells[0].reason
    assert (
        f"hwrun: nothing was measured: all 2 cells were skipped, the first because {run.cells[0].reason};"
        f" {run.cells[0].remedy}\n"
    ) in err
    assert run.manifest.workers == ()
    code, _, err = swept("--resume", folder, "--max-cell-time", "10s")
    assert code == 0, err
    run = read_run(folder)
    assert {cell.status for cell in run.latest_cells()} == {"done"}
    assert len(run.cells) == 4
    assert len(run.manifest.workers) == 2


@pytest.mark.root
@needs_namespaces
@pytest.mark.timed
@pytest.mark.parametrize("sides", [["--sink", "first"], ["--source", "sink"]])
def test_what_crosses_a_shaped_link_is_what_source_and_sink_say(in_this_process, profiles, tmp_path, sides):
    """A batch waits FAR_S once for every crossing."""
    folder = tmp_path / "run"
    code, _, err = swept(*options(profiles, folder, "--link", "far", *sides, splits="10,21"))
    assert code == 0, err
    # At split 21 all is computed on the first device: with the sink there too, nothing crosses.
    expected = (2, 0) if "first" in sides else (2, 2)
    for cell in read_run(folder).cells:
        crossed = expected[0] if "toy[0:10]" in cell.plan else expected[1]
        assert cell.link_measured.medium == "relay"
        assert cell.latency_s() - 0.042 == pytest.approx(FAR_S * crossed, abs=FAR_S / 2)
        assert min(cell.link_measured.rtt_samples_s) == pytest.approx(2 * FAR_S, rel=0.1)


@pytest.mark.root
@needs_namespaces
@pytest.mark.timed
def test_cells_of_a_link_that_is_not_what_was_asked_are_refused_with_numbers_and_measured_when_it_is(
    in_this_process, profiles, tmp_path
):
    folder = tmp_path / "run"
    shapes_of = local_testbed.shapes_of
    with pytest.MonkeyPatch.context() as patch:
        late = {"one_way_delay_s": 0.06}
        patch.setattr(local_testbed, "shapes_of", lambda link, seed=0: shapes_of(structs.replace(link, **late), seed))
        code, _, err = swept(*options(profiles, folder, "--link", "50mbit,30ms"))
    assert code == 1
    cells = read_run(folder).latest_cells()
    assert {cell.status for cell in cells} == {"failed"}
    for cell in cells:
        assert cell.reason.startswith("not the link that was asked for: A to B: round trips take 6")
        assert "(median of 7), and 30ms was asked for (28.5ms to 34." in cell.reason
        assert "--link-tolerance 5%" in cell.remedy
        assert min(cell.link_measured.rtt_samples_s) >= 0.06
    assert len([probe for probe in read_run(folder).probes if probe.moment == "before"]) == 3  # and not for each cell
    code, _, err = swept("--resume", folder)
    assert code == 0, err
    assert {cell.status for cell in read_run(folder).latest_cells()} == {"done"}


@pytest.mark.root
@needs_namespaces
def test_cells_whose_link_had_changed_when_they_were_done_are_refused_and_keep_their_samples(
    in_this_process, profiles, tmp_path
):
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwrun.sweeps.bench.Bench.probe_after", lambda *_, is_last: "round trips take 300 ms")
        code, _, err = swept(*options(profiles, folder, "--link", "50mbit,20ms", "--link-tolerance", "50%"))
    assert code == 1
    assert "2 cells refused: not the link that was asked for, after its cells: A to B: round trips take 300 ms" in err
    cells = read_run(folder).latest_cells()
    assert {cell.status for cell in cells} == {"failed"}
    assert all(cell.subruns for cell in cells)
    assert len(read_run(folder).cells) == 4


@pytest.mark.parametrize("holds", [True, False])
def test_cells_that_an_interrupt_left_without_a_probe_after_them_are_judged_by_the_first_one_when_resumed(
    in_this_process, profiles, tmp_path, holds
):
    folder = tmp_path / "run"
    record = sweep.append_cell

    def record_and_interrupt(*arguments):
        record(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "append_cell", record_and_interrupt)
        # A tolerance that a busy machine keeps as well.
        link = ["--link", "50mbit,20ms", "--link-tolerance", "50%"]
        code, _, err = swept(*options(profiles, folder, "--backend", "memory", *link))
    assert code == 130, err
    (first,) = read_run(folder).cells
    assert [probe.moment for probe in read_run(folder).probes] == ["before"]
    with pytest.MonkeyPatch.context() as patch:
        if not holds:
            patch.setattr(link_probes, "missed", lambda *_: "round trips take 300 ms")
        code, _, err = swept("--resume", folder)
    cells = read_run(folder).latest_cells()
    assert {cell.status for cell in cells} == {"done" if holds else "failed"}
    assert code == (0 if holds else 1), err
    assert ("1 cells refused: not the link that was asked for, at the first probe after its cells" in err) is not holds
    (again,) = [cell for cell in cells if cell.cell_id == first.cell_id]
    assert again.subruns == first.subruns  # its samples stay
    if not holds:
        code, _, err = swept("--resume", folder)
        assert code == 0, err
        assert {cell.status for cell in read_run(folder).latest_cells()} == {"done"}


@pytest.mark.root
@needs_namespaces
def test_a_killed_relay_fails_its_cell_at_once_and_ends_the_sweep_which_is_resumed(
    in_this_process, profiles, scratch, tmp_path
):
    folder = tmp_path / "run"
    killed_s = []

    def feed_without_relay(*arguments, **changes):
        if lines(folder) == 1:  # in the second cell, when it is deployed and primed
            (relay,) = relays(psutil.Process())
            relay.kill()
            killed_s.append(time.monotonic())
        return feed(*arguments, **changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "feed", feed_without_relay)
        code, _, err = swept(*options(profiles, folder, "--link", "far", repeats=10))
    assert time.monotonic() - killed_s[0] < AT_ONCE_S
    assert code == 1
    assert "the packet relay" in err
    assert f"hwrun sweep --resume {folder}" in err
    assert [cell.status for cell in read_run(folder).cells] == ["done", "failed"]
    assert left_in(scratch) == []


@pytest.mark.root
@needs_namespaces
def test_a_relay_that_is_killed_between_two_cells_fails_none_and_ends_the_sweep(
    in_this_process, profiles, scratch, tmp_path
):
    folder = tmp_path / "run"
    record = sweep.append_cell

    def record_and_kill(*arguments):
        record(*arguments)
        (relay,) = relays(psutil.Process())
        relay.kill()
        relay.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "append_cell", record_and_kill)
        code, _, err = swept(*options(profiles, folder, "--link", "far"))
    assert code == 1
    assert "the packet relay" in err
    assert f"hwrun sweep --resume {folder}" in err
    assert [cell.status for cell in read_run(folder).cells] == ["done"]
    assert left_in(scratch) == []
    code, _, err = swept("--resume", folder)
    assert code == 0, err
    assert [cell.status for cell in read_run(folder).cells] == ["done", "done"]


def test_a_sweep_of_processes_that_compute_for_real_ends_clean(scratch, tmp_path):
    folder = tmp_path / "run"
    arguments = [
        "--splits", "10", "--batch", "1", "--mode", "single", "--repeats", "1", "--batches-per-cell", "3",
        "-o", str(folder),
    ]  # fmt: skip
    with running_sweep(scratch, *arguments) as (process, children):
        wait_until((folder / MANIFEST_NAME).exists, "the manifest")
        children += psutil.Process(process.pid).children(recursive=True)
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        assert len(children) >= 2
        assert_all_end(children)
    (cell,) = read_run(folder).cells
    assert cell.plan.startswith("mobilenet_v2@x86-core[0:10]+x86-core[10:21]/b1/")
    assert cell.stage_targets_s is None
    assert not cell.emulated
    assert cell.output_check.relative_difference <= 1e-4
    assert "same bits" in out or "within 1e-4" in out
    assert Path(folder, "worker-A.log").exists()
    assert left_in(scratch) == []


def test_workers_of_emulated_stages_have_cores_of_their_own_where_there_are_enough(profiles, scratch, tmp_path):
    folder = tmp_path / "run"
    with running_sweep(scratch, *options(profiles, folder, splits="10")) as (process, _):
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
    manifest = read_run(folder).manifest
    cores = [str(worker["cores"]) for worker in manifest.workers]
    if len(usable_cores()) >= 2:
        assert cores == [str(core) for core in usable_cores()[:2]]
        assert manifest.cores_each == (1,)
    else:
        assert len(set(cores)) == 1
    assert "relay.core" not in manifest.testbed  # which beside stages that only wait may run on any


def test_a_killed_worker_fails_the_cell_it_is_in_if_any_and_the_sweep_goes_on_until_interrupted_and_resumed(
    in_this_process, profiles, scratch, tmp_path
):
    folder = tmp_path / "run"
    sweep_options = options(profiles, folder, repeats=5)
    with running_sweep(scratch, *sweep_options, first=IN_THE_THIRD_CELL_AND_BEFORE_THE_FIFTH) as (process, children):
        wait_until(lambda: lines(folder) >= 1, "the first cell")
        children += psutil.Process(process.pid).children(recursive=True)
        wait_until(lambda: lines(folder) >= 5, "two cells after the one of the worker's death")
        children += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 130
        assert_all_end(children)
    assert f"hwrun sweep --resume {folder}" in err
    assert left_in(scratch) == []
    before = read_run(folder).cells
    assert [cell.status for cell in before[:5]] == ["done", "done", "failed", "done", "done"], before[4].reason
    assert "worker B was killed by signal 9" in before[2].reason
    assert f"failed: {before[2].plan}" in err
    assert {cell.status for cell in before[5:]} <= {"done"}
    code, _, err = swept("--resume", folder)
    assert code == 0, err
    run = read_run(folder)
    assert run.cells[: len(before)] == before
    assert len(run.cells) == 11  # one was tried twice
    assert len(run.latest_cells()) == 10
    assert {cell.status for cell in run.latest_cells()} == {"done"}


def test_a_stopped_worker_costs_its_cell_no_more_than_its_time_and_is_started_anew(
    in_this_process, profiles, scratch, tmp_path
):
    folder = tmp_path / "run"
    arguments = options(profiles, folder, "--max-cell-time", "4s", repeats=2)
    with running_sweep(scratch, *arguments, first=STOPPED_IN_THE_THIRD_CELL) as (process, children):
        wait_until(lambda: lines(folder) >= 2, "the second cell")
        children += psutil.Process(process.pid).children(recursive=True)
        _, err = process.communicate(timeout=LIMIT_S)
        assert_all_end(children)
    assert process.returncode == 1
    cells = read_run(folder).cells
    assert [cell.status for cell in cells] == ["done", "done", "failed", "done"], err
    assert cells[2].reason == "worker B: no answer to Ping within 2 s"
    assert cells[2].remedy.startswith("resume the sweep to try it again")
    assert left_in(scratch) == []


def test_a_sweep_that_is_told_to_end_does_so_in_good_order_and_says_how_it_goes_on(profiles, scratch, tmp_path):
    folder = tmp_path / "run"
    arguments = options(profiles, folder, "--backend", "memory", repeats=50)
    with running_sweep(scratch, *arguments) as (process, _):
        wait_until(lambda: lines(folder) >= 1, "the first cell")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert f"hwrun: interrupted; what is done is kept. Go on with: hwrun sweep --resume {folder}" in err
    assert {cell.status for cell in read_run(folder).cells} == {"done"}
    assert left_in(scratch) == []


def test_a_second_interrupt_kills_a_sweep_that_hangs_while_it_ends_and_its_workers(
    in_this_process, profiles, scratch, tmp_path
):
    folder, leaving = tmp_path / "run", tmp_path / "leaving"
    hangs = (
        "import pathlib, time; from hwrun.local.workers import LocalWorkers;"
        f" LocalWorkers._leave = lambda self: (pathlib.Path({str(leaving)!r}).touch(), time.sleep({LIMIT_S}));"
    )
    with running_sweep(scratch, *options(profiles, folder, repeats=50), first=hangs) as (process, children):
        wait_until(lambda: lines(folder) >= 1, "the first cell")
        children += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        wait_until(leaving.exists, "the end of the sweep")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=AT_ONCE_S)
        assert process.returncode == 130
        assert_all_end(children)
    assert read_run(folder).cells[0].status == "done"
    assert left_in(scratch) == []


def test_a_worker_that_is_still_dying_when_its_connection_is_gone_is_told_as_dead():
    workers = LocalWorkers.__new__(LocalWorkers)
    process = subprocess.Popen(["sh", "-c", "sleep 0.1; kill -9 $$"])
    workers._running = {"B": local_workers._Running(process, SimpleNamespace(gone="Connection reset by peer"))}
    assert workers.deaths() == "worker B was killed by signal 9"


def test_a_worker_that_hangs_before_a_cell_is_ended_and_started_anew_and_the_others_stay(monkeypatch):
    workers = LocalWorkers.__new__(LocalWorkers)
    workers._testbed = SimpleNamespace(hosts=[SimpleNamespace(name=name) for name in "AB"])
    processes = {name: subprocess.Popen(["sleep", str(LIMIT_S)]) for name in "AB"}
    processes["B"].send_signal(signal.SIGSTOP)
    workers._running = {
        name: local_workers._Running(
            process, SimpleNamespace(gone=None, answers=lambda name=name: name == "A", close=lambda: None)
        )
        for name, process in processes.items()
    }
    started = []
    monkeypatch.setattr(workers, "_start", lambda hosts: started.extend(host.name for host in hosts))
    workers.revive()
    running = [name for name, process in processes.items() if process.poll() is None]
    for process in processes.values():
        process.kill()
        process.wait()
    assert started == ["B"]
    assert running == ["A"]


def test_workers_that_are_not_ready_in_time_are_ended_and_leave_no_pipe(monkeypatch):
    monkeypatch.setattr(local_workers, "_START_LIMIT_S", 0.0)
    with local_testbed.LocalTestbed(shaped=False) as testbed:
        descriptors = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
        workers = LocalWorkers(testbed, threads=1, log_folder=None)
        with pytest.raises(TimedOutError, match="worker A: not ready within 0 s"), workers:
            pass
        assert set(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208 - names alone


def test_a_killed_orchestrator_takes_its_workers_along_and_its_sweep_is_resumed_without_a_cell_twice(
    in_this_process, profiles, scratch, tmp_path
):
    folder = tmp_path / "run"
    with running_sweep(scratch, *options(profiles, folder, repeats=4)) as (process, children):
        wait_until(lambda: lines(folder) >= 3, "the third cell")
        children += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert_all_end(children)
    before = read_run(folder).cells
    assert 3 <= len(before) < 8
    assert len(left_in(scratch)) == 1
    code, _, err = swept("--resume", folder)
    assert code == 0, err
    after = read_run(folder).cells
    assert after[: len(before)] == before
    assert len(after) == 8
    assert len({cell.cell_id for cell in after}) == 8
    assert left_in(scratch) == []


@pytest.mark.root
@needs_namespaces
@pytest.mark.timed
def test_three_stages_cross_two_links_of_their_own(in_this_process, profiles, tmp_path):
    folder = tmp_path / "run"
    arguments = options(profiles, folder, "--link", "unshaped+far", "--plan", PLAN, "--emulate", "toy")
    del arguments[arguments.index("--splits") : arguments.index("--splits") + 2]
    code, _, err = swept(*arguments)
    assert code == 0, err
    run = read_run(folder)
    # The relay of an emulated link is no host that rests.
    assert {(probe.link_name, bool(probe.measured.rested)) for probe in run.probes} == {
        ("unshaped", True), ("far", False)
    }  # fmt: skip
    (cell,) = run.cells
    assert cell.output_check.bitwise_equal
    assert cell.hosts == ("A", "B", "C")
    assert [measured.medium for measured in cell.links_measured] == ["veth", "relay"]
    assert cell.latency_s() - 0.042 == pytest.approx(FAR_S, abs=FAR_S / 2)
    assert all(hop.send_bytes > 0 and hop.receive_bytes > 0 for hop in cell.buffers)
    assert len(cell.buffers) == 2
    # Every batch took the cable to B, past the relay, and the relay from B to C.
    cut_bytes = ProfileStore().model("mobilenet_v2").cut_bytes()
    batches = cell.subruns[0].batches
    assert cell.relay["A-B.forward_bytes"] == 0
    assert cell.relay["B-C.forward_bytes"] > 2 * cut_bytes[14] * len(batches)
    hops_s = []
    for batch in batches:
        first, second, third = batch.stages
        hops_s.append(second.receive_end_s - first.send_start_s)
        assert third.receive_end_s - second.send_start_s >= FAR_S
    assert min(hops_s) < FAR_S / 2  # any one may have to wait for a busy processor


@pytest.mark.root
@needs_namespaces
@pytest.mark.timed
def test_stages_that_call_one_another_cross_the_link_and_leave_nothing(profiles, scratch, tmp_path):
    """RPC joins processes, so these are; results come back over the link, from one without blocks."""
    folder = tmp_path / "run"
    arguments = options(
        profiles, folder, "--link", "far", "--link", "unshaped", "--backend", "rpc", "--sink", "first", splits="10"
    )
    with running_sweep(scratch, *arguments, first=SHORT_TRANSFERS) as (process, children):
        wait_until((folder / MANIFEST_NAME).exists, "the manifest")
        children += psutil.Process(process.pid).children(recursive=True)
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        assert_all_end(children)
    by_link = {cell.link_name: cell for cell in read_run(folder).cells}
    for name, crossed_s in (("far", 2 * FAR_S), ("unshaped", 0.0)):
        cell = by_link[name]
        assert cell.output_check.bitwise_equal
        assert len(cell.subruns[0].batches[0].stages) == 2
        assert cell.latency_s() - 0.042 == pytest.approx(crossed_s, abs=0.6 * FAR_S)
    assert left_in(scratch) == []
