"""Front agreement, computed by hand on synthetic runs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwrun.records import read_run
from validation.fronts import decision_hypervolume, front_agreement, hypervolume
from validation.join import join


@pytest.fixture
def agreement(synthetic: Callable) -> Callable:
    """Agreement of the one condition of a synthetic run whose measurements are off by `factors`."""

    def find(factors: Callable, tolerance: float = 0.02, **changes: object) -> object:
        run = synthetic(factors=factors, repeats=1, **changes)
        return front_agreement(join(read_run(run.write()), run.store).comparisons, tolerance)

    return find


def _factors(latency: float) -> object:
    return SimpleNamespace(latency=latency, throughput=1.0, transfer=1.0)


def test_exact_predictions_agree_in_every_respect(agreement: Callable) -> None:
    found = agreement(lambda split, repeat: _factors(1.0))
    assert found.predicted == found.measured == (3, 4, 5)
    assert found.agrees
    assert (found.strict.precision, found.strict.recall, found.strict.f1) == (1.0, 1.0, 1.0)
    assert found.decision_hypervolume == pytest.approx(1.0)
    assert (found.latency.regret, found.latency.true_rank) == (0.0, 1)
    assert (found.throughput.regret, found.throughput.true_rank) == (0.0, 1)


def test_a_split_that_measures_far_worse_costs_precision(agreement: Callable) -> None:
    # Split 4 is predicted on the front; twice its latency puts it behind split 3.
    found = agreement(lambda split, repeat: _factors(2.0 if split == 4 else 1.0))
    assert found.predicted == (3, 4, 5)
    assert found.measured == (3, 5)
    assert (found.strict.precision, found.strict.recall) == (pytest.approx(2 / 3), 1.0)
    assert found.strict.f1 == pytest.approx(0.8)
    assert found.decision_hypervolume == pytest.approx(1.0)  # the other two are on the measured front


def test_following_a_wrong_recommendation_has_a_regret_and_a_rank(agreement: Callable) -> None:
    found = agreement(lambda split, repeat: _factors(3.0 if split == 5 else 1.0))
    latency = found.latency
    assert (latency.recommended, latency.measured_best) == (5, 4)
    # Predicted (so measured but for split 5): 96.1 ms at split 5, 107.6 ms at split 4.
    assert latency.regret == pytest.approx(3 * 0.0961184 / 0.1076352 - 1, rel=1e-3)
    assert latency.true_rank == 5


def test_a_near_miss_counts_in_the_tolerant_score_alone(agreement: Callable) -> None:
    # Of two splits with nearly equal latency, 1 % is enough to leave the front and not enough to matter.
    def nearly(split: int, repeat: int) -> object:
        return _factors(0.1371 / 0.1076 * 1.01 if split == 4 else 1.0)

    found = agreement(nearly)
    assert 4 not in found.measured
    assert found.strict.precision < 1
    assert found.tolerant.precision == 1.0
    assert agreement(nearly, tolerance=0.0).tolerant.precision < 1


def test_one_split_makes_no_front(agreement: Callable) -> None:
    assert agreement(lambda split, repeat: _factors(1.0), splits=(2,)) is None


def test_hypervolume_by_hand() -> None:
    assert hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), 2.0) == 3.0
    assert hypervolume(np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]), 2.0) == 3.25
    assert hypervolume(np.array([[2.0, 0.0]]), 2.0) == 0.0


def test_hypervolume_of_a_worse_decision_by_hand() -> None:
    costs = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])
    best = np.array([True, True, True])
    found = decision_hypervolume(costs, np.array([True, False, False]), best)
    # Reference 1.1: one point alone covers 1.1 · 0.1; all three 0.11 + 0.6 · 0.5 + 0.1 · 0.5.
    assert found == pytest.approx(0.11 / 0.46)


def test_hypervolume_means_nothing_where_an_objective_does_not_vary() -> None:
    costs = np.array([[1.0, 2.0], [1.0, 3.0]])
    assert decision_hypervolume(costs, np.array([True, False]), np.array([True, False])) is None


@settings(deadline=None)  # the machine may be shared
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_hypervolume_counts_the_dominated_unit_squares(points: list[tuple[int, int]]) -> None:
    squares = {(x, y) for px, py in points for x in range(px, 10) for y in range(py, 10)}
    assert hypervolume(np.array(points, dtype=np.float64), 10.0) == len(squares)
