from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwrun.errors import BadUsageError
from hwrun.local.departure_queue import Counters, DepartureQueue, Shape, shapes_of
from paretosim.link import Link

# 8 Mbit/s is a byte a microsecond, which makes the cases readable.
BYTE_PER_US = 8e6


def frame(size_bytes: int, mark: int = 0) -> bytes:
    return bytes([mark]) * size_bytes


def released(queue: DepartureQueue, now_s: float) -> list[bytes]:
    frames = []
    while (found := queue.release(now_s)) is not None:
        frames.append(found)
    return frames


def test_a_frame_on_an_idle_link_takes_its_serialisation_and_the_delay() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=0.010))
    assert queue.offer(frame(1000), now_s=5.0)
    assert queue.next_release_s == pytest.approx(5.0 + 0.001 + 0.010)
    assert released(queue, 5.0109) == []
    assert released(queue, 5.0111) == [frame(1000)]
    assert queue.next_release_s == math.inf


def test_frames_that_come_together_leave_one_serialisation_apart_and_wait_the_delay_once() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=0.010))
    for mark, size in enumerate((1000, 500, 250)):
        queue.offer(frame(size, mark), now_s=1.0)
    times = []
    while queue.next_release_s < math.inf:
        times.append(queue.next_release_s)
        queue.release(queue.next_release_s)
    assert times == pytest.approx([1.0 + 0.010 + 0.001, 1.0 + 0.010 + 0.0015, 1.0 + 0.010 + 0.00175])


def test_an_idle_pause_earns_no_credit() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US))
    queue.offer(frame(1000), now_s=0.0)
    queue.offer(frame(1000), now_s=10.0)
    queue.offer(frame(1000), now_s=10.0)
    queue.release(1.0)
    assert queue.next_release_s == pytest.approx(10.001)
    queue.release(10.0011)
    assert queue.next_release_s == pytest.approx(10.002)


def test_without_a_rate_frames_only_wait_the_delay_and_none_is_dropped() -> None:
    queue = DepartureQueue(Shape(None, delay_s=0.5, limit_bytes=1514))
    assert all(queue.offer(frame(1514), now_s=0.0) for _ in range(100))
    assert released(queue, 0.49) == []
    assert len(released(queue, 0.5)) == 100


def test_a_frame_beyond_the_limit_is_dropped_and_one_that_just_fits_is_not() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, limit_bytes=3000))
    assert [queue.offer(frame(1000), now_s=0.0) for _ in range(4)] == [True, True, True, False]
    # After 1 ms the link has sent 1000 bytes, so exactly one more fits, although nothing was released yet.
    assert [queue.offer(frame(1000), now_s=0.001) for _ in range(2)] == [True, False]
    assert queue.counters.drops == 2
    assert queue.counters.max_queued_bytes == pytest.approx(3000)


def test_frames_under_way_do_not_fill_the_queue() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=10.0, limit_bytes=2000))
    assert all(queue.offer(frame(1000), now_s=number * 0.001) for number in range(50))
    assert len(queue) == 50


def test_reshaping_drops_what_is_inside_and_forgets_the_backlog() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=1.0))
    for _ in range(3):
        queue.offer(frame(1000), now_s=0.0)
    queue.reshape(Shape(BYTE_PER_US * 2))
    assert (len(queue), queue.counters.flushed, queue.next_release_s) == (0, 3, math.inf)
    queue.offer(frame(1000), now_s=0.0)
    assert queue.next_release_s == pytest.approx(0.0005)


def test_reshaping_to_the_same_shape_changes_nothing() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=1.0))
    queue.offer(frame(1000), now_s=0.0)
    queue.reshape(Shape(BYTE_PER_US, delay_s=1.0))
    assert (len(queue), queue.counters.flushed) == (1, 0)


def test_counters_count_what_was_released_and_the_worst_lateness() -> None:
    queue = DepartureQueue(Shape(None, delay_s=1.0))
    queue.offer(frame(100), now_s=0.0)
    queue.offer(frame(200), now_s=0.5)
    queue.release(1.25)
    assert queue.counters == Counters(frames=1, bytes=100, max_lateness_s=0.25)
    queue.release(1.5)
    assert queue.counters == Counters(frames=2, bytes=300, max_lateness_s=0.25)


def test_a_link_gives_each_direction_its_own_rate_and_delay() -> None:
    link = Link(
        schema_version=1, name="dsl", rate_bps=1e6, one_way_delay_s=0.03, return_rate_bps=16e6, return_delay_s=0.01
    )
    assert shapes_of(link) == (Shape(1e6, 0.03), Shape(16e6, 0.01, seed=1))


def test_a_link_gives_each_direction_its_jitter_and_loss_a_seed_of_its_own_and_both_its_limit() -> None:
    link = Link(
        schema_version=1, name="lte", rate_bps=1e6, one_way_delay_s=0.03, return_rate_bps=16e6, return_delay_s=0.01,
        jitter_s=0.003, loss=0.01, return_jitter_s=0.001, return_loss=0.02, limit_bytes=30_000,
    )  # fmt: skip
    forward, backward = shapes_of(link, seed=7)
    assert forward == Shape(1e6, 0.03, 30_000, jitter_s=0.003, loss=0.01, seed=14)
    assert backward == Shape(16e6, 0.01, 30_000, jitter_s=0.001, loss=0.02, seed=15)


def test_the_default_queue_holds_any_window_that_tcp_may_have() -> None:
    window_bytes = 6 * 2**20  # tcp_rmem's largest
    assert Shape().limit_bytes >= window_bytes * 1514 / 1448


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rate_bps": 0.0}, "rate_bps: got 0.0, expected a finite number above zero"),
        ({"rate_bps": math.inf}, "rate_bps: got inf"),
        ({"delay_s": -0.1}, "delay_s: got -0.1, expected a finite number of 0 or more"),
        ({"delay_s": math.nan}, "delay_s: got nan"),
        ({"delay_s": 0.1, "rate_bps": 1e6, "jitter_s": 0.2}, "jitter_s: got 0.2, expected 0 up to the delay, 0.1"),
        ({"delay_s": 0.1, "jitter_s": 0.05}, "jitter_s: got it without rate_bps"),
        ({"loss": 1.0}, "loss: got 1.0, expected a share from 0 to below 1"),
        ({"limit_bytes": 1000}, "limit_bytes: got 1000, expected room for one frame"),
    ],
)
def test_a_shape_refuses_what_no_link_can_be(setting: dict[str, float], message: str) -> None:
    with pytest.raises(BadUsageError, match=message):
        Shape(**setting)  # type: ignore[arg-type]  # limit_bytes is an int here


arrivals = st.lists(st.tuples(st.floats(0, 0.01), st.integers(60, 1514)), min_size=1, max_size=60)


@given(arrivals, st.floats(1e5, 1e9), st.floats(0, 1), st.integers(1514, 30_000))
def test_releases_obey_rate_delay_limit_and_order(
    gaps_and_sizes: list[tuple[float, int]], rate_bps: float, delay_s: float, limit_bytes: int
) -> None:
    queue = DepartureQueue(Shape(rate_bps, delay_s, limit_bytes))
    now_s = 0.0
    free_s = 0.0  # when the oracle's link has sent everything
    expected: list[tuple[int, float]] = []
    for number, (gap_s, size) in enumerate(gaps_and_sizes):
        now_s += gap_s
        waiting_bytes = max(0.0, free_s - now_s) * rate_bps / 8
        fits = waiting_bytes + size <= limit_bytes + 0.5
        if abs(waiting_bytes + size - limit_bytes - 0.5) < 1e-3:
            return  # on the very edge, where rounding decides
        assert queue.offer(frame(size, number), now_s) == fits
        if fits:
            free_s = max(now_s, free_s) + 8 * size / rate_bps
            expected.append((number, free_s + delay_s))
    found = []
    while (release_s := queue.next_release_s) < math.inf:
        assert queue.release(math.nextafter(release_s, -1)) is None
        taken = queue.release(release_s)
        assert taken is not None
        found.append((taken[0], release_s))
    assert [number for number, _ in found] == [number for number, _ in expected]
    assert [time for _, time in found] == pytest.approx([time for _, time in expected])
    assert queue.counters.frames + queue.counters.drops == len(gaps_and_sizes)
    assert queue.counters.max_queued_bytes <= limit_bytes + 0.5


def test_delays_are_uniform_over_the_jitter_where_frames_come_far_apart() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=0.1, jitter_s=0.02, seed=3))
    delays = []
    for number in range(4000):
        queue.offer(frame(1), now_s=float(number))
        delays.append(queue.next_release_s - number - 1e-6)
        queue.release(number + 0.5)
    assert 0.08 <= min(delays) < 0.0802
    assert 0.1198 < max(delays) <= 0.12
    # A uniform draw's mean and standard deviation, to five times their own standard errors over 4000 draws.
    assert sum(delays) / 4000 == pytest.approx(0.1, abs=5 * 0.02 / math.sqrt(3 * 4000))
    quarter = sum(delay < 0.09 for delay in delays) / 4000
    assert quarter == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / 4000))


def test_with_jitter_no_frame_overtakes_and_a_long_draw_holds_up_those_behind() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=0.1, jitter_s=0.1, seed=1))
    for mark in range(200):
        queue.offer(frame(100, mark), now_s=mark * 1e-3)
    times, marks = [], []
    while (release_s := queue.next_release_s) < math.inf:
        taken = queue.release(release_s)
        assert taken is not None
        times.append(release_s)
        marks.append(taken[0])
    assert marks == list(range(200))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 100e-6 - 1e-12  # the rate holds between any two
    assert sum(gap < 101e-6 for gap in gaps) > 20  # and some waited behind a slow one


def test_a_saturated_link_keeps_its_rate_whatever_the_jitter() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, delay_s=0.01, jitter_s=0.01, seed=2))
    for _ in range(1000):
        queue.offer(frame(1000), now_s=0.0)
    releases = []
    while (release_s := queue.next_release_s) < math.inf:
        releases.append(release_s)
        queue.release(release_s)
    assert releases[-1] - releases[100] == pytest.approx(899 * 1e-3)


def test_losses_are_the_asked_share_counted_and_take_no_time_of_the_link() -> None:
    queue = DepartureQueue(Shape(BYTE_PER_US, loss=0.1, seed=5))
    kept = sum(queue.offer(frame(1000), now_s=0.0) for _ in range(4000))
    assert queue.counters.lost == 4000 - kept
    assert queue.counters.drops == 0
    assert queue.counters.lost / 4000 == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 4000))
    last_s = 0.0
    while queue.next_release_s < math.inf:
        last_s = queue.next_release_s
        queue.release(last_s)
    assert last_s == pytest.approx(kept * 1e-3)


def test_the_same_seed_loses_the_same_frames_and_another_others() -> None:
    def lost(seed: int) -> list[bool]:
        queue = DepartureQueue(Shape(BYTE_PER_US, loss=0.3, seed=seed))
        return [queue.offer(frame(100), now_s=0.0) for _ in range(100)]

    assert lost(1) == lost(1)
    assert lost(1) != lost(2)
