"""Latency and period in every mode: by hand, and against an event simulation written here from scratch."""

from __future__ import annotations

import heapq
import random
from statistics import fmean

import numpy as np
import pytest

from paretosim.mode import Mode
from paretosim.pipeline import Starts, objectives, significant

# Stage 1 takes 1 s, the link 3 s and then 0.5 s of delay, stage 2 takes 2 s: L₀ = 6.5 s, t* = 3 s.
SERVICES = np.array([[1.0, 3.0, 2.0]])
DELAYS = np.array([[0.5]])
STARTS = Starts(np.zeros(1), SERVICES[:, 0])


def _by_hand(mode: Mode) -> tuple[float, float, float | None]:
    found = objectives(SERVICES, DELAYS, mode, STARTS)
    from_start = found.latency_from_start_s
    return float(found.latency_s[0]), float(found.period_s[0]), None if from_start is None else float(from_start[0])


def test_single_waits_for_each_batch() -> None:
    assert _by_hand(Mode.named("single")) == (6.5, 6.5, None)


def test_paced_is_as_fast_as_empty_and_as_busy_as_the_slowest_station() -> None:
    assert _by_hand(Mode.named("paced")) == (6.5, 3.0, None)


def test_a_closed_window_below_the_pipelines_depth_is_bound_by_latency() -> None:
    assert _by_hand(Mode.named("closed", window=1)) == (6.5, 6.5, None)
    assert _by_hand(Mode.named("closed", window=2)) == (6.5, 3.25, None)  # 2 · 3 s < 6.5 s


def test_a_closed_window_above_it_queues_at_the_slowest_station() -> None:
    assert _by_hand(Mode.named("closed", window=3)) == (9.0, 3.0, None)
    assert _by_hand(Mode.named("closed", window=10)) == (30.0, 3.0, None)


def test_burst_queues_on_average_behind_half_of_the_others() -> None:
    # Batch n is back at 6.5 + 3n: mean over 8 is 6.5 + 3.5·3 = 17; from its start at n s: 17 − 3.5.
    # The makespan is 6.5 + 7·3 = 27.5.
    assert _by_hand(Mode.named("burst")) == (17.0, 27.5 / 8, 13.5)
    assert _by_hand(Mode.named("burst", batches=1)) == (6.5, 6.5, 6.5)


def test_the_papers_clock_leaves_out_the_way_to_stage_1() -> None:
    # An input takes 2 s on its hop and 0.25 s of delay: stage 1 starts at 2.25 s, then every 2 s.
    services, delays = np.array([[2.0, 1.0, 3.0, 2.0]]), np.array([[0.25, 0.5]])
    found = objectives(services, delays, Mode.named("burst", batches=2), Starts(np.array([2.25]), np.array([2.0])))
    assert found.latency_s[0] == 8.75 + 1.5
    assert found.latency_from_start_s is not None
    assert found.latency_from_start_s[0] == pytest.approx(((8.75 - 2.25) + (8.75 + 3.0 - 4.25)) / 2)


def _simulate(services: list[float], delays: list[float], window: int | None, batches: int) -> list[tuple[float, ...]]:
    """(dispatched, started at station 0, returned) of each batch; queues without bounds, first come, first served.

    `delays[j]` is waited after station j. With a window, a batch is dispatched when the one `window` before it is back.
    """
    queues: list[list[int]] = [[] for _ in services]
    busy = [False] * len(services)
    dispatched, started, returned = {}, {}, {}
    events: list[tuple[float, int, str, int, int]] = []
    order = 0

    def at(time: float, what: str, station: int, batch: int) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (time, order, what, station, batch))

    for batch in range(batches if window is None else min(window, batches)):
        dispatched[batch] = 0.0
        at(0.0, "arrive", 0, batch)
    while events:
        now, _, what, station, batch = heapq.heappop(events)
        if what == "arrive" and station == len(services):
            returned[batch] = now
            following = len(dispatched)
            if window is not None and following < batches:
                dispatched[following] = now
                at(now, "arrive", 0, following)
            continue
        if what == "arrive":
            queues[station].append(batch)
        else:
            busy[station] = False
            at(now + delays[station], "arrive", station + 1, batch)
        if not busy[station] and queues[station]:
            head = queues[station].pop(0)
            busy[station] = True
            if station == 0:
                started[head] = now
            at(now + services[station], "finish", station, head)
    return [(dispatched[n], started[n], returned[n]) for n in range(batches)]


def _random_lines(count: int) -> list[tuple[list[float], list[float]]]:
    draw = random.Random(7)
    lines = []
    for _ in range(count):
        stations = draw.choice([3, 3, 4, 5])
        services = [draw.choice([0.0, 0.5, 1.0, draw.uniform(0.01, 3)]) for _ in range(stations)]
        services[draw.randrange(stations)] += 0.25  # one at least takes time
        delays = [draw.choice([0.0, draw.uniform(0, 4)]) for _ in range(stations)]
        lines.append((services, delays))
    return lines


LINES = _random_lines(300)


def _closed_form(services: list[float], delays: list[float], mode: Mode) -> tuple[float, float, float | None]:
    found = objectives(
        np.array([services]), np.array([delays]), mode, Starts(np.zeros(1), np.array([services[0]]))
    )  # fmt: skip
    from_start = found.latency_from_start_s
    return found.latency_s[0], found.period_s[0], None if from_start is None else from_start[0]


def test_bursts_run_as_an_event_simulation_says() -> None:
    for index, (services, delays) in enumerate(LINES):
        batches = 1 + index % 9
        runs = _simulate(services, delays, None, batches)
        latency, period, from_start = _closed_form(services, delays, Mode.named("burst", batches=batches))
        assert latency == pytest.approx(fmean(returned - sent for sent, _, returned in runs))
        assert period == pytest.approx(max(returned for *_, returned in runs) / batches)
        assert from_start == pytest.approx(fmean(returned - begun for _, begun, returned in runs))


def test_windows_run_as_an_event_simulation_says_once_warm() -> None:
    for index, (services, delays) in enumerate(LINES):
        window = 1 + index % 6
        # A closed line with fixed service times repeats itself every `window` batches after a transient.
        runs = _simulate(services, delays, window, 40 * window)
        latency, period, _ = _closed_form(services, delays, Mode.named("closed", window=window))
        tail = runs[-10 * window :]
        assert fmean(returned - sent for sent, _, returned in tail) == pytest.approx(latency)
        assert (runs[-1][2] - runs[-1 - 10 * window][2]) / (10 * window) == pytest.approx(period)


def test_a_window_of_one_is_single_and_a_large_one_reaches_the_paced_period() -> None:
    for services, delays in LINES[:100]:
        single = _closed_form(services, delays, Mode.named("single"))
        assert _closed_form(services, delays, Mode.named("closed", window=1)) == single
        paced = _closed_form(services, delays, Mode.named("paced"))
        assert _closed_form(services, delays, Mode.named("closed", window=10_000))[1] == paced[1]
        assert _simulate(services, delays, 1, 1)[0][2] == pytest.approx(paced[0])


def test_rounding_removes_what_another_grouping_of_a_sum_leaves() -> None:
    assert significant(np.array([0.1 + 0.2 + 0.3])) == significant(np.array([0.3 + 0.2 + 0.1]))
    values = np.array([[0.0, 1.0], [2 / 3, 1e-300]])
    assert significant(values).shape == (2, 2)
    assert significant(values, 3).tolist() == [[0.0, 1.0], [0.667, 1e-300]]
