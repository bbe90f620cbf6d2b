"""A run in other programs' formats: every cell a row, and a timeline that trace viewers accept."""

import csv
import io
import itertools
import json
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest
from msgspec import structs

from hwrun.cli import main
from hwrun.errors import RecordError
from hwrun.export.cell_rows import COLUMNS, as_csv, cell_rows
from hwrun.export.timeline import aligned_clocks, as_chrome_trace
from hwrun.records import (
    BatchRecord,
    Cell,
    ClockExchange,
    LinkMeasured,
    LinkProbe,
    Manifest,
    OutputCheck,
    Phases,
    SubRun,
    WorkerClock,
    WorkerSample,
    WorkerWatch,
    append_cell,
    append_probe,
    read_run,
    write_manifest,
)
from paretosim.mode import Mode

# The far host's clock reads this much more when the run begins, and loses a millisecond in 100 s.
OFFSET_S, DRIFT = 5000.0, -1e-5


def far(near_s):
    return near_s + OFFSET_S + DRIFT * near_s


def batch(index, start_s, *, shared_clock):
    """Stage 1 computes 0.1 s, the hop takes 0.2 s, stage 2 computes 0.05 s."""
    b = (lambda time_s: time_s) if shared_clock else far
    sent_s = start_s + 0.1
    return BatchRecord(
        index=index,
        dispatched_s=start_s,
        returned_s=start_s + 0.36,
        stages=(
            Phases(
                compute_start_s=start_s + 0.001, compute_end_s=sent_s, send_start_s=sent_s, send_end_s=sent_s + 0.01,
            ),
            Phases(
                receive_start_s=b(start_s + 0.2), receive_end_s=b(start_s + 0.3), compute_start_s=b(start_s + 0.3),
                compute_end_s=b(start_s + 0.35), send_start_s=b(start_s + 0.35), send_end_s=b(start_s + 0.355),
                overrun=index == 2,
            ),
        ),
    )  # fmt: skip


def exchanges(near_s, moved_s):
    return tuple(
        ClockExchange(sent_s=near_s, arrived_s=far(near_s + way_s) + moved_s, answered_s=far(near_s + way_s) + moved_s,
                      returned_s=near_s + 2 * way_s)
        for way_s in (0.0002, 0.0001)
    )  # fmt: skip


def utc(near_s):
    return datetime.fromtimestamp(1.7e9 + near_s, UTC).isoformat(timespec="seconds")


# When probes were made, by how much the far clock was then moved against the cell's, and the near one against UTC's.
PROBES = ((0.0, 0.0, 0.0), (100.0, 0.0, 0.0))


def make_run(folder, *, kind="local", probes=PROBES):
    folder.mkdir()
    write_manifest(folder, Manifest(
        run_id="r1", created_utc="", command_line=(), testbed={"kind": kind}, workers=(), emulated=True, speed=20.0,
        timings={}, versions={}, host={}, sysctls={}, qdisc="", seed=0, cells_planned=3,
    ))  # fmt: skip
    common = {
        "mode": Mode.named("single"), "link_name": "unshaped", "link_asked": None, "hosts": ("A", "B"),
        "emulated": True, "speed": 20.0,
    }  # fmt: skip
    plan = "alexnet@pi[0:3]+gpu[3:21]/b8/w-/tcp/f32"
    append_cell(folder, Cell(plan=plan, repeat=0, status="failed", reason='worker, B: "gone"\n', remedy="r", **common))
    append_cell(folder, Cell(
        plan=plan, repeat=1, status="done", started_utc=utc(40.0), **common,
        subruns=(SubRun(
            name="single", window=1,
            warmup=(batch(0, 50.0, shared_clock=kind == "local"),),
            batches=tuple(batch(n, 50.0 + n, shared_clock=kind == "local") for n in (1, 2)),
        ),),
        link_measured=LinkMeasured(medium="network", rtt_samples_s=(0.2, 0.3, 0.4), goodput_bps=1e6, probe_bytes=1),
        output_check=OutputCheck(bitwise_equal=True, max_abs_difference=0.0, relative_difference=0.0),
        tcp_info=({"retransmits": 2}, {}),
        watched=(WorkerWatch(
            host="B", before={}, after={}, held_back=("throttled, in between",),
            samples=tuple(
                WorkerSample(time_s=1.0, cpu_cores=use, cores_busy=(use,), rss_bytes=int(use * 100), interfaces={})
                for use in (0.25, 0.75)
            ),
        ),),
    ))  # fmt: skip
    for near_s, moved_s, utc_moved_s in probes:
        middle_s = near_s + 5e-5
        same = ClockExchange(sent_s=near_s, arrived_s=middle_s, answered_s=middle_s, returned_s=near_s + 1e-4)
        append_probe(folder, LinkProbe(
            link_name="unshaped", link_asked=None, moment="before" if near_s < 50 else "after",
            started_utc=utc(near_s + utc_moved_s), near="A", far="B",
            measured=LinkMeasured(medium="network", rtt_samples_s=(0.2,), goodput_bps=1e6, probe_bytes=1),
            clocks=(WorkerClock(worker="A", exchanges=(same,)),
                    WorkerClock(worker="B", exchanges=exchanges(near_s, moved_s))),
        ))  # fmt: skip
    return read_run(folder)


def check_trace_events(document):
    """What the Trace Event Format's description asks of the events used here."""
    assert set(document) <= {"traceEvents", "displayTimeUnit", "otherData"}
    assert document["displayTimeUnit"] in ("ms", "ns")
    opened = Counter()
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "process_sort_index", "thread_name", "thread_sort_index")
            continue
        assert event["ts"] >= 0
        assert isinstance(event["cat"], str)
        if event["ph"] == "X":
            assert event["dur"] >= 0
        else:
            key = (event["cat"], event["id"], event["name"])
            opened[key] += {"b": 1, "e": -1}[event["ph"]]
            assert opened[key] in (0, 1), "an asynchronous event that ends before it began, or begins twice"
    assert set(opened.values()) <= {0}
    # Complete events of one thread do not overlap: it does one thing at a time.
    threads = {}
    for event in document["traceEvents"]:
        if event["ph"] == "X":
            threads.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in threads.values():
        spans.sort()
        assert all(end <= start + 1e-3 for (_, end), (start, _) in itertools.pairwise(spans))


@pytest.fixture(params=["local", "testbed"])
def run(request, tmp_path):
    return make_run(tmp_path / "run", kind=request.param)


def test_a_timeline_is_a_trace_event_file_with_a_track_a_thread_and_link(run):
    document = json.loads(as_chrome_trace(run, run.cells[1]))
    check_trace_events(document)
    named = {e["args"]["name"] for e in document["traceEvents"] if e["name"] in ("process_name", "thread_name")}
    assert named == {
        "orchestrator", "stage 1 on A: pi, blocks 0 to 3", "stage 2 on B: gpu, blocks 3 to 21", "receive", "compute",
        "send",
    }  # fmt: skip
    events = [event for event in document["traceEvents"] if event["ph"] in "Xb"]
    assert Counter(event["cat"] for event in events) == {
        "under way": 3, "compute": 6, "send": 6, "receive": 3, "hop 1": 3
    }  # fmt: skip
    assert document["otherData"]["cell"] == run.cells[1].cell_id
    assert document["otherData"]["kind"] == "measured"
    assert [e["args"]["warm-up"] for e in events if e["cat"] == "under way"] == [True, False, False]
    assert sum(e["args"].get("overrun", False) for e in events) == 1


def test_times_of_both_hosts_are_on_one_clock_however_far_theirs_are_apart(run):
    document = json.loads(as_chrome_trace(run, run.cells[1]))
    by_kind = {
        (e["cat"], e["pid"]): (e["ts"], e["dur"])
        for e in reversed(document["traceEvents"])
        if e["ph"] == "X" and e["args"]["batch"] == 0
    }
    # The exchanges' two ways are alike, so the offset is right but for what drifts within the cell.
    assert by_kind["compute", 2] == pytest.approx((1e3, 99e3), abs=0.1)
    assert by_kind["receive", 3] == pytest.approx((200e3, 100e3), abs=50)
    assert by_kind["compute", 3] == pytest.approx((300e3, 50e3), abs=50)
    hop = [e for e in document["traceEvents"] if e.get("cat") == "hop 1"][:2]
    assert hop[1]["ts"] - hop[0]["ts"] == pytest.approx(200e3, abs=50)


def clock_of_b(run):
    return aligned_clocks(run, run.cells[1])["B"]


def error_s(clock):
    """How wrong the clock is while the cell runs."""
    return max(abs(clock.offset_at_s(near_s) - (OFFSET_S + DRIFT * near_s)) for near_s in (50.0, 52.4))


def test_a_clock_between_two_comparisons_drifts_evenly_and_says_its_error(tmp_path):
    run = make_run(tmp_path / "run", kind="testbed")
    clock = clock_of_b(run)
    for near_s in (0.0, 25.0, 99.0):
        assert clock.offset_at_s(near_s) == pytest.approx(OFFSET_S + DRIFT * near_s, abs=1e-6)
    assert clock.error_s == pytest.approx(0.0001, rel=0.01)
    assert clock.source == "between two comparisons of clocks"
    line = json.loads(as_chrome_trace(run, run.cells[1]))["otherData"]["clock of B"]
    assert line.endswith("s to the orchestrator's, wrong by at most 0.000100 s (between two comparisons of clocks)")


@pytest.mark.parametrize("moved", [(0, -4000.0), (-4000.0, 0), (0, 30.0)])
def test_after_a_restart_of_the_host_the_probe_on_the_cells_side_is_what_counts(tmp_path, moved):
    clock = clock_of_b(
        make_run(tmp_path / "run", kind="testbed", probes=((0.0, moved[0], 0.0), (100.0, moved[1], 0.0)))
    )
    assert clock.source == "one comparison of clocks"
    # In the 50 s between, clocks may drift by 500 ppm.
    assert error_s(clock) < clock.error_s == pytest.approx(0.0257, abs=0.001)


@pytest.mark.parametrize(
    "probes",
    [
        (),
        ((0.0, -4000.0, 0.0), (100.0, 9000.0, 0.0)),  # both of other boots
        ((0.0, 0.0, 0.0), (100.0, 0.09, 0.0)),  # one of another, shortly after: the batches do not tell which
        ((0.0, 0.0, -90000.0), (100.0, 0.0, 90000.0)),  # before and after restarts of all hosts at once
    ],
)
def test_without_a_probe_of_its_boot_a_cell_is_aligned_by_its_own_batches_and_says_how_badly(tmp_path, probes):
    run = make_run(tmp_path / "run", kind="testbed", probes=probes)
    clock = clock_of_b(run)
    assert clock.source == "the cell's own batches"
    # A batch is at B for 0.15 s of 0.36: half of the rest, and what clocks may drift meanwhile.
    assert error_s(clock) < clock.error_s == pytest.approx(0.105, abs=0.002)
    check_trace_events(json.loads(as_chrome_trace(run, run.cells[1])))


def test_probes_before_and_after_a_restart_of_the_orchestrator_are_told_apart(tmp_path):
    # At the same times of its clock, in the boot before: what it says of B is of that boot too.
    earlier = ((40.0, -0.1, -90000.0), (60.0, -0.1, -90000.0))
    clock = clock_of_b(make_run(tmp_path / "run", kind="testbed", probes=(*earlier, *PROBES)))
    assert error_s(clock) < clock.error_s == pytest.approx(0.0001, rel=0.01)


def test_a_cell_within_a_host_that_no_probe_compared_has_a_timeline(tmp_path):
    run = make_run(tmp_path / "run", kind="testbed", probes=())
    done = run.cells[1]

    def on_a(batch):
        first, second = batch.stages
        times = {name: value for name, value in structs.asdict(second).items() if name.endswith("_s")}
        near = {name: None if value is None else (value - OFFSET_S) / (1 + DRIFT) for name, value in times.items()}
        return structs.replace(batch, stages=(first, structs.replace(second, **near)))

    (single,) = done.subruns
    batches = tuple(map(on_a, single.batches))
    cell = structs.replace(done, hosts=("A", "A"), subruns=(structs.replace(single, warmup=(), batches=batches),))
    (clock,) = aligned_clocks(run, cell).values()
    # From dispatch to computing 1 ms, from sending the result to having it 10 ms.
    assert abs(clock.offset_s) < clock.error_s == pytest.approx(0.0055, abs=0.001)


def test_on_one_machine_clocks_are_shared_and_need_no_probe(tmp_path):
    run = make_run(tmp_path / "run", probes=())
    assert clock_of_b(run).offset_s == clock_of_b(run).error_s == 0
    check_trace_events(json.loads(as_chrome_trace(run, run.cells[1])))


def test_a_cell_that_is_not_done_has_no_timeline(run):
    with pytest.raises(RecordError, match="is failed, expected one that is done"):
        as_chrome_trace(run, run.cells[0])


def test_every_cell_is_a_row_of_the_columns_that_are_promised(run):
    failed, done = rows = cell_rows(run)
    assert all(tuple(row) == tuple(COLUMNS) for row in rows)
    for row in rows:
        for name, value in row.items():
            assert value is None or isinstance(value, COLUMNS[name]), name
    assert (failed["status"], failed["latency_s"], failed["overruns"]) == ("failed", None, 0)
    assert done["latency_s"] == pytest.approx(0.36)
    assert done["throughput_per_s"] == pytest.approx(8 / 0.36)
    assert (done["latency_samples"], done["overruns"], done["retransmits"]) == (2, 1, 2)
    assert (done["probed_rtt_s"], done["cpu_cores_mean"], done["rss_max_bytes"]) == (0.3, 0.5, 75)
    assert done["held_back"] == "B: throttled, in between"
    assert (done["cuts"], done["devices"], done["hosts"]) == ("3", "pi,gpu", "A,B")


def test_csv_is_read_back_with_awkward_text_whole(run):
    read = list(csv.DictReader(io.StringIO(as_csv(cell_rows(run)))))
    assert len(read) == 2
    assert read[0]["reason"] == 'worker, B: "gone"\n'
    assert read[0]["latency_s"] == ""
    assert float(read[1]["latency_s"]) == pytest.approx(0.36)
    assert read[1]["bitwise_equal"] == "true"


def test_parquet_holds_the_same_with_kinds(run, tmp_path, capsysbinary):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert main(["export", str(run.path), "--parquet", str(tmp_path / "t.parquet")]) == 0
    assert capsysbinary.readouterr().out == b""
    assert main(["export", str(run.path), "--parquet", "-"]) == 0
    assert capsysbinary.readouterr().out == (tmp_path / "t.parquet").read_bytes()
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.to_pylist() == cell_rows(run)
    assert str(table.schema.field("batch").type) == "int64"


def test_without_pyarrow_the_extra_is_named_and_nothing_is_left(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["export", str(run.path), "--parquet", str(tmp_path / "t.parquet")]) == 2
    assert "pyarrow is not installed; pip install 'paretosim[parquet]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_command_lists_cells_and_takes_the_beginning_of_an_id(run, tmp_path, capsys):
    done = run.cells[1].cell_id
    assert main(["export", str(run.path)]) == 0
    listed = capsys.readouterr().out
    assert all(cell.cell_id in listed for cell in run.cells)
    assert listed.startswith("every cell: model ")
    assert main(["export", str(run.path), "--timeline", str(tmp_path / "t.json"), "--cell", done[:6]]) == 0
    said = capsys.readouterr().err
    assert done in said
    assert ("clock of B: +4999.99" in said) == (run.manifest.testbed["kind"] != "local")
    check_trace_events(json.loads((tmp_path / "t.json").read_bytes()))
    assert main(["export", str(run.path), "--csv", str(tmp_path / "t.csv")]) == 0
    assert (tmp_path / "t.csv").read_text() == as_csv(cell_rows(run))


def test_a_list_of_80_columns_has_a_line_a_cell_and_breaks_no_word(run, capsys, monkeypatch):
    monkeypatch.setattr("hwrun.commands.export._PLAIN_WIDTH", 80)
    monkeypatch.setattr("hwrun.commands.export.cell_rows", lambda run: rows)
    (row, *_) = cell_rows(run)
    rows = [
        row | {"cell_id": f"{number:016x}", "model": model, "mode": "closed(window=4)", "link": link, "cuts": "10+15"}
        for number, (model, link) in enumerate([("alexnet", "unshaped"), ("inception_v3", "200mbit,40ms")])
    ]
    assert main(["export", str(run.path)]) == 0
    shared, *table = capsys.readouterr().out.splitlines()
    assert "mode closed(window=4)" in shared
    assert "model, link" in table[1]
    assert max(map(len, table)) <= 80
    shown = [line.split() for line in table[3:] if line.strip()]
    assert [line[:4] for line in shown] == [
        ["0000000000000000", "alexnet", "unshaped", "10+15"],
        ["0000000000000001", "inception_v3", "200mbit,40ms", "10+15"],
    ]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--cell", "ab"], 2, "expected --timeline FILE with it"),
        (["--timeline", "{tmp}/t.json", "--cell", "zz"], 2, "with which 0 of 2 ids begin"),
        (["--timeline", "{tmp}/t.json", "--cell", ""], 2, "with which 2 of 2 ids begin"),
        (["--csv", "-", "--timeline", "-"], 2, "got - more than once, expected one of them at most"),
        (["--parquet", "-", "--timeline", "-"], 2, "got - more than once"),
        (["--csv", "{tmp}/no/t.csv"], 1, "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_exported_says_why(run, tmp_path, capsys, options, code, message):
    assert main(["export", str(run.path), *(option.format(tmp=tmp_path) for option in options)]) == code
    assert message in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_said(tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert "holds no manifest.json" in capsys.readouterr().err
