"""The recursion against an event simulation, its closed forms, and what must hold of any line."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim import recursion
from paretosim.errors import BadInputError
from paretosim.mode import Mode
from paretosim.pipeline import Starts, objectives
from tests.paretosim import event_lines as events


def _random_line(draw: random.Random) -> tuple[list[list[float]], list[float], list[float], list[int | None]]:
    count, batches = draw.randint(1, 5), draw.randint(1, 12)
    services = [[draw.choice([0.0, 1.0, draw.uniform(0, 3)]) for _ in range(count)] for _ in range(batches)]
    delays = [draw.choice([0.0, draw.uniform(0, 4)]) for _ in range(count)]
    gaps = [draw.choice([0.0, draw.expovariate(1.0)]) for _ in range(batches)]
    slots = [draw.choice([None, 0, 1, draw.randint(0, 4)]) for _ in range(count - 1)]
    return services, delays, np.cumsum(gaps).tolist(), slots


def test_lines_run_as_an_event_simulation_says() -> None:
    draw = random.Random(11)
    for _ in range(450):
        services, delays, arrivals, slots = _random_line(draw)
        window = draw.choice([None, None, 1, 2, 5])
        control = draw.choice([0.0, draw.uniform(0, 1)])
        held = draw.choice([None, [draw.choice([0.0, draw.uniform(0, 2)]) for _ in delays]])
        expected = np.array(events.overlapped(services, delays, arrivals, slots, window, control, held))
        found = recursion.run(
            np.array(services),
            np.array(delays),
            np.array(arrivals),
            control_delay_s=control,
            held_s=None if held is None else np.array(held),
            slots=slots,
            window=window,
        )
        assert np.allclose(np.stack(found, axis=-1), expected, rtol=1e-12, atol=1e-12)


def test_it_is_the_same_over_any_leading_axes() -> None:
    generator = np.random.default_rng(0)
    services, delays = generator.uniform(0, 1, (4, 3, 1, 3)), generator.uniform(0, 1, (3, 3))
    arrivals = generator.uniform(0, 1, (4, 1, 7)).cumsum(axis=-1)
    found = recursion.run(services, delays, arrivals, slots=(1, None), window=3, started_at=1)
    assert found.returned_s.shape == (4, 3, 7)
    for sample in range(4):
        for plan in range(3):
            alone = recursion.run(
                services[sample, plan], delays[plan], arrivals[sample, 0], slots=(1, None), window=3, started_at=1
            )
            for together, apart in zip(found, alone, strict=True):
                assert np.array_equal(together[sample, plan], apart)


def test_bursts_and_windows_are_as_the_closed_forms_say() -> None:
    generator = np.random.default_rng(1)
    services, delays = generator.uniform(0, 2, (200, 4)), generator.uniform(0, 3, (200, 4))
    starts = Starts(np.zeros(200), services[:, 0])
    for batches in (1, 2, 8):
        form = objectives(services, delays, Mode.named("burst", batches=batches), starts)
        found = recursion.run(services[:, np.newaxis], delays, np.zeros(batches))
        assert np.allclose(found.latencies_s.mean(axis=1), form.latency_s)
        assert np.allclose(found.returned_s[:, -1] / batches, form.period_s)
        assert form.latency_from_start_s is not None
        assert np.allclose((found.returned_s - found.started_s).mean(axis=1), form.latency_from_start_s)
    for window in (1, 2, 5):
        form = objectives(services, delays, Mode.named("closed", window=window), starts)
        found = recursion.run(services[:, np.newaxis], delays, np.zeros(60 * window), window=window)
        last = slice(-10 * window, None)
        assert np.allclose(found.latencies_s[:, last].mean(axis=1), form.latency_s)
        interval = (found.returned_s[:, -1] - found.returned_s[:, -1 - 10 * window]) / (10 * window)
        assert np.allclose(interval, form.period_s)


@pytest.mark.parametrize("slots", [(0, 0, 0), (None, 0, 1), (2, 3, None), (float("inf"), 1, 0)])
def test_bounded_buffers_have_the_period_that_their_credits_allow(slots: tuple[float | None, ...]) -> None:
    generator = np.random.default_rng(2)
    services = generator.uniform(0, 2, (100, 4))
    delays = generator.uniform(0, 3, (100, 4)) * generator.integers(0, 2, (100, 4))
    held = generator.uniform(0, 1, (100, 4)) * generator.integers(0, 2, (100, 4))
    period = recursion.intervals_s(services + held, delays, slots).max(axis=1)
    found = recursion.run(services[:, np.newaxis], delays, np.zeros(300), slots=slots, held_s=held)
    assert np.allclose((found.returned_s[:, -1] - found.returned_s[:, -121]) / 120, period)
    # Paced no faster than that, no batch ever waits.
    paced = recursion.run(
        services[:, np.newaxis], delays, np.arange(30) * period[:, np.newaxis] * 1.000001, slots=slots, held_s=held
    )
    assert np.allclose(paced.latencies_s, (services.sum(axis=1) + delays.sum(axis=1))[:, np.newaxis])


def test_a_station_held_by_an_answer_takes_the_next_batch_later_and_keeps_its_place() -> None:
    # Served for 1, 2 and 1 s; the middle one is held for 3 s more, and its batch is 4 s on the way.
    services, delays, held = np.array([[1.0, 2.0, 1.0]]), np.array([0.0, 4.0, 0.0]), np.array([0.0, 3.0, 0.0])
    unbounded = recursion.run(services, delays, np.zeros(3), held_s=held)
    assert unbounded.returned_s.tolist() == [8.0, 13.0, 18.0]  # the first waits for no answer; 5 s apart
    # Without a slot the first station keeps a batch until the middle one has its answer, at 6 and 11 s.
    bounded = recursion.run(services, delays, np.zeros(3), held_s=held, slots=(0, None))
    assert bounded.started_s.tolist() == [0.0, 1.0, 6.0]
    assert bounded.returned_s.tolist() == [8.0, 13.0, 18.0]


times = st.floats(0, 10).map(lambda value: round(value, 3))


@st.composite
def lines(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int | None], int | None]:
    """Services (batches, m), delays (m,), arrivals, slots, window."""
    count, batches = draw(st.integers(2, 4)), draw(st.integers(1, 8))
    services = np.array(
        draw(st.lists(st.lists(times, min_size=count, max_size=count), min_size=batches, max_size=batches))
    )
    delays = np.array(draw(st.lists(times, min_size=count, max_size=count)))
    arrivals = np.cumsum(draw(st.lists(times, min_size=batches, max_size=batches)))
    slots = draw(st.lists(st.sampled_from([None, 0, 1, 3]), min_size=count - 1, max_size=count - 1))
    return services, delays, arrivals, slots, draw(st.sampled_from([None, 1, 2, 4]))


@given(lines(), st.integers(0, 100), times)
@settings(max_examples=150, deadline=None)
def test_nothing_returns_sooner_when_a_service_or_a_delay_grows(
    line: tuple[np.ndarray, np.ndarray, np.ndarray, list[int | None], int | None], place: int, more: float
) -> None:
    services, delays, arrivals, slots, window = line
    before = recursion.run(services, delays, arrivals, slots=slots, window=window).returned_s
    longer = services.copy()
    longer.ravel()[place % longer.size] += more
    assert (recursion.run(longer, delays, arrivals, slots=slots, window=window).returned_s >= before - 1e-9).all()
    further = delays.copy()
    further[place % len(delays)] += more
    assert (recursion.run(services, further, arrivals, slots=slots, window=window).returned_s >= before - 1e-9).all()


@given(lines())
@settings(max_examples=100, deadline=None)
def test_nothing_returns_later_with_a_larger_window_or_more_room(
    line: tuple[np.ndarray, np.ndarray, np.ndarray, list[int | None], int | None],
) -> None:
    services, delays, arrivals, slots, window = line
    before = recursion.run(services, delays, arrivals, slots=slots, window=window).returned_s
    wider = None if window is None else window + 1
    roomier = [None if bound is None else bound + 1 for bound in slots]
    for found in (
        recursion.run(services, delays, arrivals, slots=slots, window=wider),
        recursion.run(services, delays, arrivals, slots=roomier, window=window),
    ):
        assert (found.returned_s <= before + 1e-9).all()


@given(lines(), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_scaling_all_times_scales_all_results_and_a_free_station_changes_nothing(
    line: tuple[np.ndarray, np.ndarray, np.ndarray, list[int | None], int | None], place: int
) -> None:
    services, delays, arrivals, slots, window = line
    before = recursion.run(services, delays, arrivals, slots=slots, window=window).returned_s
    scaled = recursion.run(4 * services, 4 * delays, 4 * arrivals, slots=slots, window=window).returned_s
    assert np.array_equal(scaled, 4 * before)
    # Without bounds, a station that takes no time may stand anywhere.
    place %= services.shape[1]
    unbounded = recursion.run(services, delays, arrivals, window=window).returned_s
    more = recursion.run(
        np.insert(services, place, 0.0, axis=1), np.insert(delays, place, 0.0), arrivals, window=window
    )
    assert np.array_equal(more.returned_s, unbounded)


def test_lines_that_cannot_be_are_refused() -> None:
    one = np.ones((1, 2))
    with pytest.raises(BadInputError, match="expected 1 or as many as arrivals: 3"):
        recursion.run(np.ones((2, 2)), np.ones(2), np.zeros(3))
    with pytest.raises(BadInputError, match="2 stations, 3 delays and 1 buffers"):
        list(recursion.passages([lambda _, t: t] * 2, [0.0] * 3, [0.0]))
    for slots in ((-1,), (0.5,)):
        with pytest.raises(BadInputError, match="expected a whole number of 0 or more"):
            recursion.run(one, np.ones(2), np.zeros(3), slots=slots)
    with pytest.raises(BadInputError, match="window: got 0, expected 1 or more"):
        recursion.run(one, np.ones(2), np.zeros(3), window=0)
