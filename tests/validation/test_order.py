"""Order of plans, computed by hand and against SciPy."""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from validation.measured import Quantity, quantity
from validation.order import Inversion, RankAgreement, rank_agreement


def measured(value: float, predicted: float, spread: float = 0.0) -> Quantity:
    return quantity([value - spread, value, value + spread], [], predicted)


def agreement(*quantities: Quantity) -> RankAgreement:
    return rank_agreement(quantities, [str(place) for place in range(len(quantities))])


def test_tau_by_hand_one_pair_of_six_swapped_and_named() -> None:
    found = agreement(measured(1, 1), measured(2, 3), measured(3, 2), measured(4, 4))
    assert (found.tau, found.pairs, found.pairs_overlapping) == (pytest.approx((5 - 1) / 6), 6, 0)
    assert found.inversions == (Inversion("2", "1", (3, 2), (2, 3)),)


def test_tau_counts_predicted_ties_against_the_prediction_but_not_as_inversions() -> None:
    found = agreement(measured(1, 1), measured(2, 1), measured(3, 2))
    assert found.tau == pytest.approx(2 / math.sqrt(2 * 3))
    assert found.inversions == ()


def test_pairs_whose_ranges_overlap_are_left_out_of_tau() -> None:
    # The swapped pair cannot be told apart by the measurement.
    found = agreement(measured(1.0, 2.0, 0.3), measured(1.5, 1.0, 0.3), measured(9.0, 9.0, 0.1))
    assert (found.tau, found.pairs, found.pairs_overlapping, found.inversions) == (1.0, 2, 1, ())


def test_ranges_that_touch_overlap() -> None:
    assert agreement(measured(1.0, 2.0, 0.5), measured(2.0, 1.0, 0.5)).pairs_overlapping == 1


def test_tau_without_any_pair_is_none() -> None:
    assert agreement(measured(1, 1)).tau is None


@settings(deadline=None)  # the machine may be shared
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True), st.randoms(use_true_random=False))
def test_tau_equals_scipy_where_no_ranges_overlap(values: list[int], random: Random) -> None:
    predicted = [value * random.choice((1, 3)) for value in values]
    found = agreement(*(measured(m, p) for m, p in zip(values, predicted, strict=True)))
    expected = kendalltau(values, predicted, variant="b").statistic
    assert found.tau is None if math.isnan(expected) else found.tau == pytest.approx(expected)
    swapped = sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in combinations(zip(values, predicted, strict=True), 2))
    assert len(found.inversions) == swapped


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 30)] * 4), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_drawing_repeats_anew_never_turns_a_separable_pair_round(rows: list[tuple[int, ...]], random: Random) -> None:
    """Which is why τ has no interval over repeats."""
    quantities = [quantity(values, [], predicted) for *values, predicted in rows]
    before = agreement(*quantities)
    drawn = [quantity(random.choices(q.values, k=3), [], q.predicted) for q in quantities]
    for a, b in combinations(range(len(rows)), 2):
        if max(quantities[a].low, quantities[b].low) > min(quantities[a].high, quantities[b].high):
            assert (drawn[a].measured > drawn[b].measured) == (quantities[a].measured > quantities[b].measured)
    assert before.pairs + before.pairs_overlapping == math.comb(len(rows), 2)
