"""What a sweep's table shows, from records alone."""

import pytest

from hwrun.records import BatchRecord, Cell, Phases, SubRun
from hwrun.sweeps.summary import summary_rows
from paretosim.mode import Mode


def cell(split, latency_s, repeat=0, overrun=False, **changes):
    phases = Phases(compute_start_s=0, compute_end_s=0.1, send_start_s=0.1, send_end_s=0.2, overrun=overrun)
    batches = tuple(
        BatchRecord(index=n, dispatched_s=float(n), returned_s=n + latency_s, stages=(phases,)) for n in range(3)
    )
    options = {
        "plan": f"mobilenet_v2@a[0:{split}]+b[{split}:21]/b8/w-/tcp/f32", "mode": Mode.named("single"),
        "link_name": "unshaped", "link_asked": None, "repeat": repeat, "emulated": True, "speed": 1.0,
        "status": "done", "subruns": (SubRun(name="single", window=1, batches=batches),),
    }  # fmt: skip
    return Cell(**{**options, **changes})


def test_repeats_are_one_row_with_their_median_and_half_their_range():
    (row,) = summary_rows([cell(3, latency_s, repeat) for repeat, latency_s in enumerate((0.4, 0.5, 0.6))])
    assert row["latency_s"] == pytest.approx(0.5)
    assert row["latency_spread"] == pytest.approx(0.2)
    assert row["throughput_per_s"] == pytest.approx(16)
    assert (row["repeats_done"], row["repeats"], row["status"]) == (3, 3, "done")


def test_rows_are_in_the_order_of_splits_and_count_overruns():
    rows = summary_rows([cell(21, 0.4), cell(3, 0.4, overrun=True)])
    assert [row["split"] for row in rows] == [3, 21]
    assert [row["overruns"] for row in rows] == [3, 0]


def test_what_was_not_measured_says_why_and_has_no_numbers():
    undone = cell(3, 0.4, status="skipped", subruns=(), reason="too long", remedy="wait")
    (row,) = summary_rows([undone])
    assert row["latency_s"] is row["throughput_per_s"] is row["latency_spread"] is None
    assert (row["status"], row["reason"], row["remedy"]) == ("skipped", "too long", "wait")
    (mixed,) = summary_rows([undone, cell(3, 0.4, repeat=1)])
    assert (mixed["repeats_done"], mixed["repeats"], mixed["status"]) == (1, 2, "skipped")
    assert mixed["latency_s"] == pytest.approx(0.4)
