"""The table at the end of a sweep: narrow, and nothing in it twice."""

import re
import sys

import pytest

from hwrun.sweeps import summary_table
from hwrun.sweeps.summary_table import show_summary


def row(**more):
    return {
        "model": "mobilenet_v2", "link": "unshaped", "mode": "paced", "backend": "tcp", "workers": "overlapped",
        "tcp_state": "warm", "cuts": "14", "repeats_done": 5, "repeats": 5, "latency_s": 0.3702,
        "latency_spread": 0.123,
        "throughput_per_s": 31.8, "throughput_spread": 0.012, "bitwise_equal": True, "overruns": 0, "status": "done",
        "reason": None, "remedy": None, "top1": None, "top1_images": None,
        "held_back": "",
    } | more  # fmt: skip


@pytest.fixture
def shown(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(summary_table, "_PLAIN_WIDTH", 80)

    def show(*rows):
        show_summary(rows, tmp_path, as_json=False)
        assert not sys.stdout.isatty()
        return capsys.readouterr().out

    return show


def test_what_all_rows_share_is_said_once_and_is_no_column(shown):
    out = shown(row(), row(cuts="18"))
    assert out.splitlines()[0] == "measured: mobilenet_v2, unshaped, paced"
    assert out.count("mobilenet_v2") == 1
    assert "output: same bits as the unsplit model's\n" in out
    assert "late " not in out


def test_every_condition_that_differs_is_a_column_and_eighty_columns_are_enough(shown):
    out = shown(
        row(), row(model="inception_v3", link="5mbit,200ms", mode="closed(window=4)"),
        row(backend="rpc", workers="serial", tcp_state="cold", overruns=3, bitwise_equal=False),
    )  # fmt: skip
    for word in ("inception_v3", "370.2ms ±12.3%", "31.8 ±1.2%", "TCP", "late"):
        assert word in re.sub(r"\s+", " ", out)
    assert "same bits as the unsplit model's in 2 of 3 rows, the others within 1e-4" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80


def test_on_a_narrow_terminal_numbers_are_folded_and_none_is_lost(shown, monkeypatch):
    monkeypatch.setattr(summary_table, "_PLAIN_WIDTH", 40)
    out = shown(row(overruns=12), row(cuts="18"))
    table = [line for line in out.splitlines() if " " in line][2:-1]
    assert "…" not in out
    assert "370.2" in out
    assert "31.8" in out
    for mark in "±%":  # of two spreads in each of two rows, wherever they were folded
        assert out.count(mark) == 4
    assert max(map(len, table)) <= 40


def test_what_was_not_measured_says_why(shown):
    out = shown(
        row(status="skipped", latency_s=None, throughput_per_s=None, bitwise_equal=None, reason="r", remedy="m")
    )
    assert "skipped: r; m" in out
    assert "output" not in out


def test_top1_is_said_once_a_model_with_how_many_images_it_is_of(shown):
    out = shown(*(row(cuts=cut, top1=0.914, top1_images=256) for cut in ("14", "18")))
    assert out.count("top-1 of mobilenet_v2: 91.4% of 256 images, by the unsplit model") == 1
    assert "top-1" not in shown(row())


def test_a_processor_that_was_held_back_is_a_caution(shown):
    out = shown(row(), row(cuts="18", held_back="pi2: throttled, in between"))
    assert "caution: a processor or GPU was held back in 1 of 2 rows (pi2: throttled, in between)" in out
    assert "caution" not in shown(row())


def test_no_rows_are_no_table_to_speak_of(shown):
    assert "run folder" in shown()
