"""Feeding: each mode on lines whose times follow from the recursion of DESIGN §5 and are not waited for."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hwrun.errors import BadUsageError
from hwrun.feeding import MAX_WINDOW, PACE, NotSaturatedError, fed_batches, feed
from paretosim.mode import Arrivals, Mode


class ComputedLine:
    """Stations in a row with unlimited queues: start when the batch and the station are both there, then a delay."""

    def __init__(self, services_s, delays_s):
        self.services_s, self.delays_s = services_s, delays_s
        self.free_s = [0.0] * len(services_s)
        self.now_s = 0.0
        self.returns = []
        self.under_way = self.most_under_way = 0
        self.dispatched = 0

    def dispatch(self, sequence):
        time_s = self.now_s
        for station, (service_s, delay_s) in enumerate(zip(self.services_s, self.delays_s, strict=True)):
            time_s = self.free_s[station] = max(time_s, self.free_s[station]) + service_s
            time_s += delay_s
        self.returns.append((sequence, time_s))
        self.under_way += 1
        self.dispatched += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return self.now_s

    def take_returned(self):
        sequence, time_s = self.returns.pop(0)
        self.now_s = max(self.now_s, time_s)
        self.under_way -= 1
        return sequence, time_s

    def wait_until(self, time_s):
        self.now_s = max(self.now_s, time_s)


def latencies(run):
    return [fed.returned_s - fed.dispatched_s for fed in run.batches]


def period(run):
    completions = [fed.returned_s for fed in run.batches]
    return (completions[-1] - completions[0]) / (len(completions) - 1)


times = st.floats(0.001, 1.0)


@given(st.tuples(times, times, times), st.floats(0, 0.5))
def test_single_measures_l0(services, delay):
    (run,) = feed(ComputedLine(services, (0, delay, 0)), Mode.named("single"), 5)
    assert len(run.warmup) == 2
    assert latencies(run) == pytest.approx([sum(services) + delay] * 5)


@given(st.tuples(times, times, times), st.floats(0, 0.5))
def test_paced_measures_l0_and_the_slowest_station(services, delay):
    assume((MAX_WINDOW / 2 - 1) * max(services) > sum(services) + delay)  # some window saturates
    saturated, paced = feed(ComputedLine(services, (0, delay, 0)), Mode.named("paced"), 6)
    slowest = max(services)
    assert period(saturated) == pytest.approx(slowest, rel=1e-6)
    assert paced.interval_s == pytest.approx(slowest / PACE, rel=1e-6)
    assert latencies(paced) == pytest.approx([sum(services) + delay] * 6)
    assert len(paced.batches) == 6
    assert len(saturated.batches) >= 6


@pytest.mark.parametrize("delay", [0.0, 0.1, 2.0])
def test_a_window_saturates_when_a_batch_always_waits_whatever_the_delay(delay):
    saturated, _ = feed(ComputedLine((0.05, 0.02, 0.04), (0, delay, 0)), Mode.named("paced"), 8)
    assert period(saturated) == pytest.approx(0.05)
    l0 = 0.11 + delay
    assert saturated.window >= l0 / 0.05 + 1
    assert saturated.window <= max(4, 2 * (l0 / 0.05 + 1))


def test_a_first_batch_that_was_slow_makes_the_window_larger_and_changes_nothing_else():
    class Cold(ComputedLine):
        def dispatch(self, sequence):
            self.delays_s = (0, 0.4 if sequence == 0 else 0.0, 0)
            return super().dispatch(sequence)

    warm, _ = feed(ComputedLine((0.05, 0.02, 0.04), (0, 0, 0)), Mode.named("paced"), 8)
    cold, _ = feed(Cold((0.05, 0.02, 0.04), (0, 0, 0)), Mode.named("paced"), 8)
    assert (warm.window, cold.window) == (4, 8)
    assert period(cold) == pytest.approx(period(warm))


def test_a_delay_no_window_can_fill_is_refused_with_the_remedy():
    line = ComputedLine((0.001,), (1000 * 0.001 * MAX_WINDOW,))
    with pytest.raises(NotSaturatedError, match=f"window {MAX_WINDOW}.*--speed"):
        feed(line, Mode.named("paced"), 4)


@given(st.integers(1, 9), st.integers(2, 20), st.tuples(times, times), st.floats(0, 3.0))
def test_closed_keeps_its_window_and_its_mean_interval_is_the_period(window, batches, services, delay):
    line = ComputedLine(services, (delay, 0))
    (run,) = feed(line, Mode.named("closed", window=window), batches)
    assert line.most_under_way == window
    l0 = sum(services) + delay
    assert period(run) == pytest.approx(max(*services, l0 / window), rel=1e-9)
    assert latencies(run) == pytest.approx([max(l0, window * max(services))] * len(run.batches))
    assert len(run.batches) >= batches


@given(st.integers(1, 10), st.tuples(times, times))
def test_burst_dispatches_all_at_once_and_queues_as_the_closed_form_says(batches, services):
    (run,) = feed(ComputedLine(services, (0, 0)), Mode.named("burst", batches=batches), 99)
    assert len(run.batches) == batches
    assert len({fed.dispatched_s for fed in run.batches}) == 1
    mean = math.fsum(latencies(run)) / batches
    assert mean == pytest.approx(sum(services) + (batches - 1) / 2 * max(services))


@pytest.mark.parametrize(
    "mode", [Mode.named("single"), Mode.named("paced"), Mode.named("closed", window=3), Mode.named("burst")]
)
@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_no_mode_feeds_fewer_batches_than_the_skip_arithmetic_counts(mode, delay):
    line = ComputedLine((0.05, 0.02), (delay, 0))
    runs = feed(line, mode, 7)
    assert line.dispatched >= fed_batches(mode, 7)
    numbers = [fed.sequence for run in runs for fed in (*run.warmup, *run.batches)]
    assert sorted(numbers) == list(range(line.dispatched))
    assert line.under_way == 0


def test_a_mode_that_is_only_predicted_is_refused_before_anything_is_sent() -> None:
    mode = Mode.named("open", arrivals=Arrivals(rate_per_s=1.0))
    for refused in (lambda: feed(None, mode, 3), lambda: fed_batches(mode, 3)):  # type: ignore[arg-type]  # unused
        with pytest.raises(
            BadUsageError, match=r"mode open\(rate=1/s, deterministic\): it is predicted and simulated only"
        ):
            refused()


class OneDevice:
    """Two stages on one host that take turns, the earlier one first: a line slowed by the batches behind."""

    def __init__(self, first_s, second_s):
        self.services_s = (first_s, second_s)
        self.now_s = 0.0
        self.waiting = [[], []]
        self.under_way = 0

    def dispatch(self, sequence):
        self.waiting[0].append(sequence)
        self.under_way += 1
        return self.now_s

    def take_returned(self):
        while True:
            stage = 0 if self.waiting[0] else 1
            sequence = self.waiting[stage].pop(0)
            self.now_s += self.services_s[stage]
            if stage == 1:
                self.under_way -= 1
                return sequence, self.now_s
            self.waiting[1].append(sequence)


def test_where_stages_share_a_host_the_window_stays_full_until_the_last_measured_batch_is_back():
    line = OneDevice(0.2, 0.3)
    (run,) = feed(line, Mode.named("closed", window=4), 8, slowed_from_behind=True)
    assert period(run) == pytest.approx(0.5)
    assert len(run.batches) == 9
    assert line.under_way == 0
    (draining,) = feed(OneDevice(0.2, 0.3), Mode.named("closed", window=4), 8)
    assert period(draining) < 0.45


class OpeningLine(ComputedLine):
    """A line whose link lets out `open_` batches at once, the rest a delay later; acknowledged ones open it further."""

    def __init__(self, services_s, delays_s, open_=1):
        super().__init__(services_s, delays_s)
        self.open = open_

    def dispatch(self, sequence):
        held_back = self.under_way >= self.open
        if held_back:
            self.open *= 2
            self.free_s[0] += self.delays_s[0]
        return super().dispatch(sequence)


@pytest.mark.parametrize("mode", [Mode.named("closed", window=4), Mode.named("burst", batches=8)])
def test_windows_are_open_before_batches_count_where_a_window_is_more_than_tcp_has_let_out(mode):
    opened = OpeningLine((0.02, 0.01), (0.4, 0))
    (run,) = feed(opened, mode, 8, opening=True)
    (warm,) = feed(OpeningLine((0.02, 0.01), (0.4, 0), open_=64), mode, 8)
    assert latencies(run) == pytest.approx(latencies(warm))
    assert opened.open > 1
    (stalled,) = feed(OpeningLine((0.02, 0.01), (0.4, 0)), mode, 8)
    assert max(latencies(stalled)) > max(latencies(warm)) + 0.3
    assert len(run.warmup) >= 2 * (mode.window or mode.batches)


def test_rounds_go_on_while_they_are_faster_and_end_where_they_never_settle():
    class Faster(ComputedLine):
        def dispatch(self, sequence):
            self.services_s = (10 * 0.9**sequence,)
            return super().dispatch(sequence)

    (run,) = feed(Faster((10.0,), (0.0,)), Mode.named("burst", batches=4), 4, opening=True)
    assert len(run.warmup) == 2 + 8 * 4


def test_a_saturating_window_is_opened_before_it_is_judged():
    opened, _ = feed(OpeningLine((0.02, 0.03), (0.4, 0)), Mode.named("paced"), 8, opening=True)
    assert period(opened) == pytest.approx(0.03)
