"""What a cell takes at least: hand-computed cases, and a line that is really fed."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hwrun.feeding import feed
from hwrun.sweeps.cell_duration import feeding_s, smaller_than_a_round_trip, time_floor_s, too_long
from hwrun.sweeps.cells import parse_asked_links, plan_cells
from paretosim.mode import Mode
from paretosim.plan import Plan
from tests.hwrun.planned_cells import STORE, planned_cell

VGG16 = STORE.model("vgg16")


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


@pytest.mark.parametrize("opening", [False, True])
@pytest.mark.parametrize("mode", ["single", "closed", "burst", "paced"])
@given(stations=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5), batches=st.integers(2, 20))
def test_what_a_line_of_stations_is_fed_takes_as_long_as_the_arithmetic_says(mode, opening, stations, batches):
    # Where a batch would wait by a rounding error, either window may be the one that saturates.
    assume(all(abs((window - 1) * max(stations) - sum(stations)) > 1e-9 for window in (4, 8, 16)))
    line = Line(*stations)
    feed(line, Mode.named(mode), batches, opening=opening)
    expected_s = feeding_s(Mode.named(mode), sum(stations), max(stations), batches, opening=opening)
    assert expected_s == pytest.approx(line.now_s)


def test_by_hand():
    assert feeding_s(Mode.named("single"), 2.0, 1.0, 3) == 5 * 2.0
    # Four under way: a batch every second, the slowest station's time, after the first.
    assert feeding_s(Mode.named("closed", window=4), 2.0, 1.0, 4) == 2.0 + 8 * 1.0
    # Too few under way for the slowest station: a batch every half of the two seconds.
    assert feeding_s(Mode.named("closed", window=2), 2.0, 0.1, 4) == 2.0 + 6 * 1.0


def test_those_behind_a_batch_cost_time_where_they_slow_it():
    for mode, window in (("closed", 4), ("paced", 4)):
        apart_s = feeding_s(Mode.named(mode), 1.2, 1.0, 5)
        assert feeding_s(Mode.named(mode), 1.2, 1.0, 5, slowed_from_behind=True) == pytest.approx(apart_s + window - 1)


# The batch that is compared, two that warm up, and one that is measured.
SINGLES = 4


def test_a_vgg16_batch_after_one_block_takes_164_seconds_at_5_mbit():
    floor_s = time_floor_s(planned_cell(), VGG16, (0.0, 0.0), 1)
    assert floor_s == pytest.approx(SINGLES * (102_760_448 * 8 / 5e6 + 0.2))
    reason, remedy = too_long(floor_s, 60.0)
    assert "--max-cell-time 60s" in reason
    assert "--max-cell-time" in remedy


def test_an_unshaped_link_adds_nothing_and_a_short_cell_is_not_skipped():
    unshaped = planned_cell(link=("unshaped", None))
    assert time_floor_s(unshaped, VGG16, (0.5, 0.25), 10) == pytest.approx(13 * 0.75)
    assert time_floor_s(unshaped, VGG16, None, 10) == 0
    assert too_long(59.0, 60.0) is None


def test_the_floor_counts_inputs_and_results_only_where_they_cross_the_link():
    base_s = time_floor_s(planned_cell(split=38), VGG16, None, 1)
    inputs_s = time_floor_s(planned_cell(split=38, source="sink"), VGG16, None, 1)
    assert inputs_s - base_s == pytest.approx(SINGLES * 8 * 3 * 224 * 224 * 4 * 8 / 5e6)
    outputs_s = time_floor_s(planned_cell(split=38, sink="first"), VGG16, None, 1)
    assert outputs_s - base_s == pytest.approx(SINGLES * 8 * 1000 * 4 * 8 / 5e6)
    assert time_floor_s(planned_cell(split=39, sink="first"), VGG16, None, 1) == 0


def test_overlapping_modes_are_bounded_by_the_slowest_part():
    single_s = time_floor_s(planned_cell(split=38), VGG16, (0.3, 0.4), 10)
    closed_s = time_floor_s(planned_cell(split=38, mode=Mode.named("closed")), VGG16, (0.3, 0.4), 10)
    assert closed_s < 1.7 * single_s


def test_a_batch_is_small_where_a_path_holds_more_in_a_round_trip():
    # 5 Mbit/s for 0.2 s are 125 kB. Split 38 sends 8 × 4096 floats, split 39 8 × 1000; the input is 4.8 MB.
    assert not smaller_than_a_round_trip(planned_cell(split=38), VGG16)
    assert smaller_than_a_round_trip(planned_cell(split=39), VGG16)
    assert smaller_than_a_round_trip(planned_cell(split=38, sink="first"), VGG16)
    assert not smaller_than_a_round_trip(planned_cell(split=39, sink="first", source="sink"), VGG16)
    assert not smaller_than_a_round_trip(planned_cell(split=39, link=("unshaped", None)), VGG16)


def test_stages_on_one_host_take_turns_and_the_floor_knows():
    def burst_s(**hosts):
        plan = Plan.parse("vgg16@x[0:5]+x[5:39]/b8/w-/tcp/f32")
        (found,) = plan_cells(
            plans=[plan], links=[parse_asked_links("unshaped", STORE)], modes=[Mode.named("burst", batches=5)],
            source="stage1", sink="last", repeats=1, seed=0, **hosts,
        )  # fmt: skip
        return time_floor_s(found, VGG16, (0.2, 0.3), 5)

    # One is compared, two warm up, and the five come one a turn of the slowest host.
    assert burst_s() == pytest.approx(4 * 0.5 + 4 * 0.3)
    assert burst_s(hosts=["A", "A"]) == pytest.approx(4 * 0.5 + 4 * 0.5)
