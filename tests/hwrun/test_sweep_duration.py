"""Estimates of how long a sweep takes: hand-computed cases, and a line that is really fed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwrun.errors import BadUsageError
from hwrun.feeding import feed
from hwrun.sweep_duration import Estimate, TimeLeft, feeding_s, parse_long_duration_s, spoken
from paretosim.mode import Mode


class Line:
    """Stations of fixed times in a row, each a batch at a time; its clock moves only as batches do."""

    def __init__(self, *stations_s):
        self._stations_s = stations_s
        self._free_s = [0.0] * len(stations_s)
        self._returns = []
        self.now_s = 0.0

    def dispatch(self, sequence):
        time_s = self.now_s
        for place, station_s in enumerate(self._stations_s):
            time_s = self._free_s[place] = max(time_s, self._free_s[place]) + station_s
        self._returns.append((sequence, time_s))
        return self.now_s

    def take_returned(self):
        sequence, time_s = self._returns.pop(0)
        self.now_s = max(self.now_s, time_s)
        return sequence, time_s

    def wait_until(self, time_s):
        self.now_s = max(self.now_s, time_s)


@pytest.mark.parametrize("mode", ["single", "closed", "burst", "paced"])
@given(stations=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5), batches=st.integers(2, 20))
def test_what_a_line_of_stations_is_fed_takes_about_as_long_as_estimated(mode, stations, batches):
    line = Line(*stations)
    feed(line, Mode.named(mode), batches)
    estimated_s = feeding_s(Mode.named(mode), sum(stations), max(stations), batches)
    assert estimated_s == pytest.approx(line.now_s, rel=0.35)


def test_by_hand():
    assert feeding_s(Mode.named("single"), 2.0, 1.0, 3) == 5 * 2.0
    # Four under way: a batch every second, the slowest station's time, after the first.
    assert feeding_s(Mode.named("closed", window=4), 2.0, 1.0, 4) == 2.0 + 8 * 1.0
    # Too few under way for the slowest station: a batch every half of the two seconds.
    assert feeding_s(Mode.named("closed", window=2), 2.0, 0.1, 4) == 2.0 + 6 * 1.0


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
