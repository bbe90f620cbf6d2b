"""What a report leaves out, and why: cell by cell, and by reason where there are many."""

from __future__ import annotations

from validation.join import Unjoined
from validation.report.origin_tables import unjoined_overview, unjoined_table


def skipped(split: int, seconds: float, repeat: int = 0, model: str = "vgg16") -> Unjoined:
    return Unjoined(
        run_id="r",
        plan=f"{model}@rpi4b[0:{split}]+rpi4b[{split}:39]/b8/w-/tcp/f32",
        mode="paced",
        link_name="100mbit,20ms",
        repeat=repeat,
        status="skipped",
        reason=f"its bytes take {seconds}s, more than --max-cell-time 20s",
        remedy=f"resume with --max-cell-time {round(seconds / 10 + 1) * 10}s or more",
    )


def test_reasons_that_differ_in_their_numbers_alone_are_one_row_of_an_overview() -> None:
    entries = [skipped(1, 128.2), skipped(1, 128.2, repeat=1), skipped(5, 37.5), skipped(2, 33.0, model="alexnet")]
    assert len(unjoined_table(entries).rows) == 3
    (row,) = unjoined_overview(entries).rows
    status, cells, models, links, reason, remedy = row
    assert (status, cells, models, links) == ("skipped", "4", "vgg16, alexnet", "100mbit,20ms")
    assert reason == "such as: its bytes take 128.2s, more than --max-cell-time 20s"
    assert remedy == "resume with --max-cell-time 140s or more"


def test_a_reason_of_its_own_is_a_row_of_its_own_and_said_as_it_is() -> None:
    entries = [
        skipped(1, 128.2),
        Unjoined("r", skipped(2, 1).plan, "paced", "unshaped", 0, "failed", "no disk", "free"),
    ]
    rows = unjoined_overview(entries).rows
    assert [row[4] for row in rows] == ["its bytes take 128.2s, more than --max-cell-time 20s", "no disk"]
