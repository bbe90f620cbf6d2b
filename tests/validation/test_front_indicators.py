"""Indicators by hand, and against definitions worked out point by point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.pareto import is_nondominated
from validation.front_indicators import decision_hypervolume, igd_plus, multiplicative_epsilon

# Latency, throughput: three plans on the front, scaled to (0, 0), (1, 1), (0.5, 0.5).
THREE = np.array([[1.0, 10.0], [2.0, 20.0], [1.5, 15.0]])
ALL = np.array([True, True, True])
FIRST = np.array([True, False, False])


def test_hypervolume_of_a_worse_decision_by_hand() -> None:
    # Reference (1.1, −0.1). One plan alone covers 1.1 · 0.1; all three 0.11 + 0.6 · 0.5 + 0.1 · 0.5.
    assert decision_hypervolume(THREE, FIRST, ALL) == pytest.approx(0.11 / 0.46)


def test_igd_plus_of_a_worse_decision_by_hand() -> None:
    # (0, 0) falls short of (1, 1) by 1 in throughput, of (0.5, 0.5) by 0.5, of itself by nothing; none in latency.
    assert igd_plus(THREE, FIRST, ALL) == pytest.approx((1 + 0.5 + 0) / 3)


def test_epsilon_of_a_worse_decision_by_hand() -> None:
    # 10 images/s must be doubled to be no worse than 20.
    assert multiplicative_epsilon(THREE, FIRST, ALL) == pytest.approx(2.0)


def test_a_decision_for_the_front_loses_nothing() -> None:
    assert decision_hypervolume(THREE, ALL, ALL) == 1.0
    assert igd_plus(THREE, ALL, ALL) == 0.0
    assert multiplicative_epsilon(THREE, ALL, ALL) == 1.0


def test_scaled_indicators_mean_nothing_where_an_objective_does_not_vary() -> None:
    objectives = np.array([[1.0, 2.0], [1.0, 3.0]])
    assert decision_hypervolume(objectives, np.array([True, False]), np.array([False, True])) is None
    assert igd_plus(objectives, np.array([True, False]), np.array([False, True])) is None
    assert multiplicative_epsilon(objectives, np.array([True, False]), np.array([False, True])) == 1.5


def covered(plans: np.ndarray) -> int:
    """Unit squares between plans of latency 0 … 10, throughput 0 … 10, and the point (11, −1)."""
    return len({(x, y) for latency, speed in plans.astype(int) for x in range(latency, 11) for y in range(-1, speed)})


@settings(deadline=None)  # the machine may be shared
@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=6), st.data())
def test_indicators_equal_their_definitions(points: list[tuple[int, int]], data: st.DataObject) -> None:
    # With both corners the scale is 0 … 10, so that all is in whole numbers.
    objectives = np.array([*points, (0, 0), (10, 10)], dtype=np.float64)
    some = [data.draw(st.booleans()) for _ in objectives]
    decided = np.array(some if any(some) else [True] * len(some))
    best = is_nondominated(objectives * [1, -1])
    assert decision_hypervolume(objectives, decided, best) == pytest.approx(
        covered(objectives[decided]) / covered(objectives[best])
    )
    worse = [
        min(np.hypot(max(a[0] - z[0], 0), max(z[1] - a[1], 0)) / 10 for a in objectives[decided])
        for z in objectives[best]
    ]
    assert igd_plus(objectives, decided, best) == pytest.approx(np.mean(worse))
    above_zero = objectives + 1
    factors = [min(max(a[0] / z[0], z[1] / a[1]) for a in above_zero[decided]) for z in above_zero[best]]
    assert multiplicative_epsilon(above_zero, decided, best) == pytest.approx(max(factors))
