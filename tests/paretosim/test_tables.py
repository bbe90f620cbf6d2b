"""What a person reads: complete at any width, marked, and without exponents."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from paretosim.mode import Mode
from paretosim.prediction import Prediction, predict
from paretosim.show.tables import show, split_table


def _shown(prediction: Prediction, width: int = 160) -> str:
    file = io.StringIO()
    show(prediction, Console(file=file, width=width, highlight=False, markup=False, emoji=False))
    return file.getvalue()


def _line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [start])


def test_every_split_and_both_baselines_have_a_line(toy: Any) -> None:
    table = split_table(predict(toy.setting(outputs=(50, 10))), 160).plain
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["–", "–", "0", "1", "2"]
    assert "first alone: one" in table
    assert "second alone: two" in table
    assert _line(table, "0").split()[1] == "(input)"
    assert "b0" in _line(table, "1")


def test_the_front_and_the_recommended_are_marked(toy: Any) -> None:
    found = predict(
        toy.setting((0.25,) * 4, (0.25,) * 4, outputs=(4000, 2000, 1000, 500), inputs=8000, link=toy.link(1e7))
    )
    table = split_table(found, 160).plain
    assert [_line(table, str(split)).split()[1] for split in range(5)] == ["(input)", "b0", "●T", "●", "●LK"]


def test_what_rules_a_split_out_is_marked(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=7_000), toy.device("two"))
    text = _shown(predict(toy.setting(outputs=(50, 10), weights=1000, devices=devices)))
    assert "✗" in _line(text, "1")
    assert "✗" not in _line(text, "0")
    assert "✗ stage1 does not fit on one (7.0 kB of 7.0 kB usable): splits 1–2, needing" in text
    assert "✗" in next(line for line in text.splitlines() if "first alone: one" in line)
    late = _shown(predict(toy.setting(outputs=(50, 10), max_latency_s=0.45)))
    assert "–" in _line(late, "1")


def test_where_nothing_qualifies_each_recommendation_says_so(toy: Any) -> None:
    text = _shown(predict(toy.setting(max_latency_s=1e-6)))
    assert "L best latency: no split qualifies" in text
    assert "T best throughput: no split qualifies" in text
    assert "K knee: no split qualifies" in text
    assert "Verdict: No split meets latency ≤ 1 us" in text


def test_where_nothing_fits_the_rows_are_still_shown(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1))
    text = _shown(predict(toy.setting(devices=devices)))
    assert [_line(text, str(split)).split()[1] for split in range(3)] == ["✗"] * 3
    assert "front: 0 of 3 splits" in text
    assert "Verdict: No split fits in the devices' memory" in text


def test_an_unknown_memory_rules_nothing_out_and_says_so(toy: Any) -> None:
    devices = (toy.device("one", memory_bytes=None), toy.device("two"))
    assert "memory of one: unknown, so nothing is ruled out by it" in _shown(predict(toy.setting(devices=devices)))


def test_each_timings_kind_and_error_is_shown(toy: Any) -> None:
    text = _shown(predict(toy.setting(kind="reconstructed")))
    assert "timing on one: reconstructed, error 5.0% (by hand)" in text
    assert "timing on two: reconstructed, error 5.0% (by hand)" in text
    assert "(reconstructed) s" in text
    assert "timing on one: measured, error unknown" in _shown(predict(toy.setting(error=None)))


def test_a_batch_that_was_not_profiled_is_said_to_be_scaled(toy: Any) -> None:
    text = _shown(predict(toy.setting(batch=4)))
    assert "timing on two: extrapolated (scaled linearly from batch 8 to 4), error" in text
    assert text.count("(extrapolated) s") == 2
    assert "measured" not in text


def test_one_device_twice_is_described_once(toy: Any) -> None:
    text = _shown(predict(toy.setting(devices=(toy.device("one"), toy.device("one")), second_s=(0.1, 0.3))))
    assert text.count("timing on one") == 1
    assert text.count("memory of one") == 1


def test_delay_is_said_to_move_no_front_only_where_that_is_so(toy: Any) -> None:
    said = "delay shifts every split alike and so moves no front"
    assert said in _shown(predict(toy.setting()))
    assert said not in _shown(predict(toy.setting(mode=Mode.named("closed"))))
    assert said not in _shown(predict(toy.setting(sink="first")))


def test_burst_shows_the_papers_clock(toy: Any) -> None:
    text = _shown(predict(toy.setting(mode=Mode.named("burst"))))
    assert "from start" in text
    assert "mode burst(batches=8)" in text


def test_emulation_is_said(toy: Any) -> None:
    assert "emulated: all stage times divided by 20" in _shown(predict(toy.setting(speed=20.0)))


def test_large_numbers_are_written_out(toy: Any) -> None:
    text = _shown(predict(toy.setting((1e-4,) * 2, (1e-4,) * 2, link=toy.link(1e9, 12345.6))))
    assert "e+" not in text
    assert "12350" in text


@pytest.mark.parametrize("width", [1, 10, 20, 40, 60, 80, 100, 300])
@pytest.mark.parametrize("mode", ["paced", "burst"])
def test_any_width_shows_every_split_on_one_line_and_says_what_is_left_out(toy: Any, width: int, mode: Any) -> None:
    found = predict(toy.setting((0.1,) * 12, (0.1,) * 12, mode=Mode.named(mode)))
    text = _shown(found, width)
    for row in found.rows:
        assert f"{row.latency_s:.4g}" in _line(text, str(row.split))
    assert ("too narrow for:" in text) is (width < 110)
    table = split_table(found, width).plain
    if width >= 60:
        assert max(len(line) for line in table.splitlines() if "too narrow" not in line) <= width


def test_either_device_alone_is_named_where_there_is_no_room_for_its_name(toy: Any) -> None:
    found = predict(toy.setting(outputs=(50, 10)))
    wide, narrow = (split_table(found, width).plain for width in (160, 60))
    assert [line.split()[0] for line in wide.splitlines()[2:4]] == ["–", "–"]
    assert "first alone: one" not in narrow
    assert [line.split()[0] for line in narrow.splitlines()[2:4]] == ["first", "second"]
    assert "; first, second: that device alone)" in narrow
    assert "that device alone" not in wide


def test_each_stage_that_does_not_fit_says_which_it_is(toy: Any) -> None:
    small = toy.device("one", memory_bytes=7_000)
    text = _shown(predict(toy.setting(outputs=(50, 10), weights=1000, devices=(small, small))))
    assert "✗ stage1 does not fit on one (7.0 kB of 7.0 kB usable): splits 1–2, needing 7.1 kB to 7.4 kB" in text
    assert "✗ stage2 does not fit on one (7.0 kB of 7.0 kB usable): splits 0, needing 7.1 kB" in text
