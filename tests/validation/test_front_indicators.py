"""Indicators by hand, and against definitions worked out point by point."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.pareto import is_nondominated
from validation.front_indicators import decision_hypervolume, igd_plus, multiplicative_epsilon

# Latency, throughput: three plans on the front.
THREE = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
ALL = np.array([True, True, True])
FIRST = np.array([True, False, False])


def test_hypervolume_of_a_worse_decision_by_hand() -> None:
    # Speeds 1, 1/2, 1/4 with throughputs 10, 20, 40: rectangles from the origin cover 10 + ½·10 + ¼·20 = 20.
    assert decision_hypervolume(THREE, FIRST, ALL) == pytest.approx(10 / 20)


def test_hypervolume_of_single_plans_is_the_product_of_both_ratios() -> None:
    objectives = np.array([[1.0, 10.0], [1.25, 9.0]])
    found = decision_hypervolume(objectives, np.array([False, True]), np.array([True, False]))
    assert found == pytest.approx(0.8 * 0.9)


def test_igd_plus_of_a_worse_decision_by_hand() -> None:
    # The first plan falls short of itself by nothing, of the others in throughput by ln 2 and ln 4.
    assert igd_plus(THREE, FIRST, ALL) == pytest.approx((np.log(2) + np.log(4)) / 3)


def test_epsilon_of_a_worse_decision_by_hand() -> None:
    # 10 images/s must be quadrupled to be no worse than 40.
    assert multiplicative_epsilon(THREE, FIRST, ALL) == pytest.approx(4.0)


def test_a_decision_for_the_front_loses_nothing() -> None:
    assert decision_hypervolume(THREE, ALL, ALL) == 1.0
    assert igd_plus(THREE, ALL, ALL) == 0.0
    assert multiplicative_epsilon(THREE, ALL, ALL) == 1.0


plans = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=7)


def decided_of(objectives: np.ndarray, data: st.DataObject) -> np.ndarray:
    some = [data.draw(st.booleans()) for _ in objectives]
    return np.array(some if any(some) else [True] * len(some))


def covered(speeds: np.ndarray) -> float:
    """Area between the origin and the staircase of (speed, throughput) points, strip by strip."""
    edges = [0.0, *sorted(set(speeds[:, 0]))]
    return sum((b - a) * speeds[speeds[:, 0] >= b][:, 1].max() for a, b in pairwise(edges))


@settings(deadline=None)  # the machine may be shared
@given(plans, st.data())
def test_indicators_equal_their_definitions(points: list[tuple[int, int]], data: st.DataObject) -> None:
    objectives = np.array(points, dtype=np.float64)
    decided = decided_of(objectives, data)
    best = is_nondominated(objectives * [1, -1])
    speeds = np.stack([1 / objectives[:, 0], objectives[:, 1]], axis=1)
    assert decision_hypervolume(objectives, decided, best) == pytest.approx(
        covered(speeds[decided]) / covered(speeds[best])
    )
    logs = np.log(objectives)
    worse = [min(np.hypot(max(a[0] - z[0], 0), max(z[1] - a[1], 0)) for a in logs[decided]) for z in logs[best]]
    assert igd_plus(objectives, decided, best) == pytest.approx(np.mean(worse))
    factors = [min(max(a[0] / z[0], z[1] / a[1]) for a in objectives[decided]) for z in objectives[best]]
    assert multiplicative_epsilon(objectives, decided, best) == pytest.approx(max(factors))


@settings(deadline=None)
@given(plans, st.tuples(st.integers(1, 9), st.integers(1, 9)), st.data())
def test_neither_units_nor_a_bad_plan_beside_the_good_ones_change_an_indicator(
    points: list[tuple[int, int]], further: tuple[int, int], data: st.DataObject
) -> None:
    objectives = np.array(points, dtype=np.float64)
    decided = decided_of(objectives, data)
    best = is_nondominated(objectives * [1, -1])
    bad = [objectives[0, 0] + further[0], objectives[0, 1] / (1 + further[1])]
    with_bad = np.vstack([objectives, bad])
    for indicator in (decision_hypervolume, igd_plus, multiplicative_epsilon):
        found = indicator(objectives, decided, best)
        assert indicator(objectives * [1000.0, 0.25], decided, best) == pytest.approx(found)
        assert indicator(with_bad, np.append(decided, False), np.append(best, False)) == pytest.approx(found)
