"""The one dominance test, against brute force, and the knee by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.pareto import are_nondominated, is_nondominated, knee, knees

# Few distinct values, so that ties in one or in all columns are common.
COSTS = st.integers(1, 3).flatmap(
    lambda columns: st.lists(st.lists(st.integers(0, 5).map(float), min_size=columns, max_size=columns), max_size=25)
)


def _brute_force(rows: list[list[float]]) -> list[bool]:
    def dominates(a: list[float], b: list[float]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    return [not any(dominates(other, row) for other in rows) for row in rows]


@settings(deadline=None, max_examples=200)
@given(COSTS)
def test_the_mask_is_what_comparing_every_pair_gives(rows: list[list[float]]) -> None:
    costs = np.array(rows, dtype=float).reshape(len(rows), len(rows[0]) if rows else 2)
    assert is_nondominated(costs).tolist() == _brute_force(rows)


@settings(deadline=None, max_examples=60)
@given(COSTS.filter(bool), st.randoms(use_true_random=False))
def test_order_does_not_matter(rows: list[list[float]], random: Any) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    mask = is_nondominated(rows)
    assert is_nondominated([rows[i] for i in order]).tolist() == [mask[i] for i in order]


def test_exact_ties_are_both_kept_and_a_tie_in_one_column_is_not() -> None:
    assert is_nondominated([[1, 2], [1, 2], [1, 3], [2, 1]]).tolist() == [True, True, False, True]


def test_of_finite_rows_one_is_always_kept() -> None:
    assert is_nondominated([[5.0, 5.0]]).tolist() == [True]
    assert is_nondominated(np.zeros((0, 2))).tolist() == []
    assert is_nondominated([[np.inf, 1.0], [np.inf, 2.0], [0.0, np.inf]]).tolist() == [True, False, True]


@pytest.mark.parametrize("costs", [[[float("nan"), 1.0]], [1.0, 2.0], np.zeros((2, 2, 2))])
@pytest.mark.parametrize("kind", [BadInputError, ValueError])
def test_nan_and_other_shapes_are_refused(costs: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"expected \(n, m\) without NaN"):
        is_nondominated(costs)


@pytest.mark.parametrize("costs", [[[1.0, 2.0], [1.0]], [["a", "b"]], None, [[1j]]])
def test_what_is_no_array_of_numbers_is_refused(costs: Any) -> None:
    with pytest.raises(BadInputError, match="costs: "):
        is_nondominated(costs)


@pytest.mark.parametrize(
    ("latencies", "throughputs"), [([], []), ([1.0, 2.0], [1.0]), ([[1.0]], [[1.0]]), ([float("nan"), 1.0], [1.0, 2.0])]
)
def test_points_that_are_no_front_have_no_knee(latencies: Any, throughputs: Any) -> None:
    with pytest.raises(BadInputError, match=r"expected \(n,\) for both, one point or more, without NaN"):
        knee(latencies, throughputs)


def test_problems_of_other_shapes_are_refused() -> None:
    with pytest.raises(BadInputError, match="alike and without NaN"):
        are_nondominated([[1.0]], [[1.0, 2.0]])


def test_the_knee_of_one_point_is_that_point() -> None:
    assert knee([3.0], [7.0]) == 0


def test_of_two_points_on_their_own_chord_the_faster_is_the_knee() -> None:
    assert knee([2.0, 1.0], [20.0, 10.0]) == 1


def test_the_knee_is_farthest_from_the_chord() -> None:
    # Scaled: (0, 0), (0.25, 0.75), (0.5, 0.8), (1, 1): distances 0, 0.5, 0.3, 0 (over √2).
    assert knee([0.0, 1.0, 2.0, 4.0], [0.0, 7.5, 8.0, 10.0]) == 1


def test_equally_far_the_faster_then_the_first_is_the_knee() -> None:
    # Scaled: (0, 0), (0.25, 0.5), (0.5, 0.75), (1, 1): 0.25 both.
    assert knee([4.0, 2.0, 1.0, 0.0], [4.0, 3.0, 2.0, 0.0]) == 2
    assert knee([1.0, 1.0], [2.0, 2.0]) == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12), st.floats(1e-3, 1e3))
def test_the_knee_does_not_depend_on_units(points: list[tuple[int, int]], factor: float) -> None:
    front = [p for p, keep in zip(points, is_nondominated([(x, -y) for x, y in points]), strict=True) if keep]
    latencies, throughputs = [float(x) for x, _ in front], [float(y) for _, y in front]
    assert knee(latencies, throughputs) == knee([x * factor for x in latencies], throughputs)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=5, max_size=5), min_size=1, max_size=4)
)
def test_knees_of_many_fronts_are_the_knees_of_each(problems: list[list[tuple[int, int]]]) -> None:
    points = np.array(problems, dtype=np.float64)
    on_front = np.array([is_nondominated(np.stack([of[:, 0], -of[:, 1]], axis=1)) for of in points])
    for of, mask, place in zip(points, on_front, knees(points[..., 0], points[..., 1], on_front), strict=True):
        places = np.flatnonzero(mask)
        assert place == places[knee(of[places, 0], of[places, 1])]
