"""Estimates of how long a sweep takes: hand-computed cases."""

import pytest

from hwrun.commands.sweep import parsed
from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import BadUsageError
from hwrun.probing.probe import ECHO_S, RESTED_S
from hwrun.sweeps.duration import Estimate, TimeLeft, computed_once_s, parse_long_duration_s, probe_s, spoken


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_time_left_follows_how_long_cells_really_take():
    clock = Clock()
    left = TimeLeft({"a": 40.0, "b": 40.0, "c": 80.0}, clock)
    clock.now_s = 100.0  # workers were started
    left.keep({"a", "b", "c"})
    assert left.seconds() == 160.0
    clock.now_s = 104.0
    assert left.seconds() == 156.0
    clock.now_s = 180.0
    left.done("a")  # it took twice what was estimated: 40 s of prior and 80 s for what 40 s of prior and 40 s were
    assert left.seconds() == 180.0
    left.keep({"c"})  # b was skipped
    assert left.seconds() == 120.0
    clock.now_s = 1000.0
    assert left.seconds() == 0.0


def test_a_slow_first_cell_does_not_speak_for_a_short_sweep():
    clock = Clock()
    left = TimeLeft({"a": 2.0, "b": 2.0}, clock)
    left.keep({"a", "b"})
    clock.now_s = 34.0  # 32 s, most of it for what is made once
    left.done("a")
    assert left.seconds() <= 4.0


def test_an_estimate_says_that_it_is_one_and_what_it_does_not_know():
    assert str(Estimate(75.0, 3, 0)) == "3 cells to measure, about 1 min 15 s (an estimate)"
    assert str(Estimate(75.0, 3, 2)).endswith("what 2 of them take to compute, which no profile says")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("8h", 28800), ("90min", 5400), ("90m", 5400), ("1h30min", 5400), ("45s", 45), ("0.5h", 1800), ("0s", 0)],
)
def test_long_times_are_read(text, seconds):
    assert parse_long_duration_s(text, "--max-time") == seconds


@pytest.mark.parametrize("text", ["", "8", "5ms", "1h 30min", "-1h", "min", "8hours"])
def test_other_times_are_refused(text):
    with pytest.raises(BadUsageError, match=r"--max-time: got .*, expected a time such as 8h"):
        parse_long_duration_s(text, "--max-time")


def test_durations_are_spoken_to_two_units():
    assert [spoken(value) for value in (59.4, 60, 3599, 7261)] == ["59 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]


def test_messages_after_pauses_are_in_the_probes_of_an_unshaped_hop_alone():
    def probes_s(link, **where):
        plan = sweep_plan(parsed(["--emulate", "rpi4b,rpi4b", "--splits", "10", "--repeats", "1", "--link", link]))
        (cell,) = plan.cells
        return probe_s(cell.hops[0], **where)

    assert probes_s("unshaped", in_memory=False) == 1.0 + RESTED_S
    assert probes_s("unshaped", in_memory=True) == 1.0
    # 8 round trips of 1 ms, two seconds' bytes but 32 MiB at most, and the sweep of sizes.
    assert probes_s("1gbit,1ms", in_memory=False) == pytest.approx(0.008 + 2**28 / 1e9 + ECHO_S)


def test_what_is_computed_for_several_cells_is_counted_once():
    def made_s(*options):
        plan = sweep_plan(parsed(["--model", "vgg16", "--splits", "18", "--backend", "tcp", *options]))
        return computed_once_s(plan, plan.cells), plan.host_block_s["vgg16", 8]

    emulated = ("--emulate", "rpi4b,rpi4b")
    (once_s, blocks_s), (twice_s, _) = (
        made_s(*emulated, "--repeats", repeats, "--link", "unshaped", "--link", "1gbit,1ms") for repeats in "12"
    )
    reference_s, _ = made_s("--repeats", "2")  # stages that compute do so in every batch
    assert once_s - reference_s == pytest.approx(sum(blocks_s))
    assert twice_s - once_s == pytest.approx(sum(blocks_s[:18]))  # results are small, and kept
