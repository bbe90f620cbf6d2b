"""Scores, computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from hwrun.records import read_run
from validation.join import join
from validation.measured import Quantity
from validation.scores import error_score, rank_agreement, score


def measured(value: float, predicted: float, spread: float = 0.0) -> Quantity:
    return Quantity(
        measured=value, predicted=predicted, low=value - spread, high=value + spread,
        noise_floor=spread / value, noise_basis="between repeats",
    )  # fmt: skip


def test_scores_by_hand() -> None:
    found = error_score([0.10, -0.20, 0.05, 0.0, -0.101])
    assert found is not None
    assert found.mape == pytest.approx(0.0902)
    # Sizes 0, .05, .10, .101, .20: the 90th percentile lies 0.6 of the way from the fourth to the fifth.
    assert found.p90 == pytest.approx(0.101 + 0.6 * 0.099)
    assert found.within == pytest.approx(3 / 5)
    assert found.bias == 0.0


def test_nothing_to_score_scores_nothing() -> None:
    assert error_score([]) is None


def test_noise_floor_of_a_score_is_the_median_of_the_known_ones() -> None:
    quantities = [measured(1.0, 1.0, 0.01), measured(1.0, 1.0, 0.03), measured(1.0, 1.0, 0.02)]
    found = error_score([0.0, 0.0, 0.0], quantities)
    assert found is not None
    assert found.noise_floor == pytest.approx(0.02)


def test_tau_by_hand_one_pair_of_six_swapped() -> None:
    found = rank_agreement([measured(1, 1), measured(2, 3), measured(3, 2), measured(4, 4)])
    assert (found.tau, found.pairs, found.pairs_overlapping) == (pytest.approx((5 - 1) / 6), 6, 0)


def test_tau_counts_predicted_ties_against_the_prediction() -> None:
    found = rank_agreement([measured(1, 1), measured(2, 1), measured(3, 2)])
    assert found.tau == pytest.approx(2 / math.sqrt(2 * 3))


def test_pairs_whose_ranges_overlap_are_left_out_of_tau() -> None:
    # The swapped pair cannot be told apart by the measurement.
    found = rank_agreement([measured(1.0, 2.0, 0.3), measured(1.5, 1.0, 0.3), measured(9.0, 9.0, 0.1)])
    assert (found.tau, found.pairs, found.pairs_overlapping) == (1.0, 2, 1)


def test_tau_without_any_pair_is_none() -> None:
    assert rank_agreement([measured(1, 1)]).tau is None


@settings(deadline=None)  # the machine may be shared
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8, unique=True), st.randoms(use_true_random=False))
def test_tau_equals_scipy_where_no_ranges_overlap(values: list[int], random: Random) -> None:
    predicted = [value * random.choice((1, 3)) for value in values]
    found = rank_agreement([measured(m, p) for m, p in zip(values, predicted, strict=True)])
    expected = kendalltau(values, predicted, variant="b").statistic
    assert found.tau is None if math.isnan(expected) else found.tau == pytest.approx(expected)


def test_baselines_are_scored_as_they_are_defined(synthetic: Callable) -> None:
    run = synthetic(splits=(2,), repeats=1)
    comparison = join(read_run(run.write()), run.store).comparisons[0]
    # Stages at speed 2: (0.05 + 0.04) / 2 and (0.006 + 0.004 + 0.002) / 2; payload 4000 floats, batch 8, 5 Mbit/s.
    wire_s = 4000 * 4 * 8 * 8 / 5e6
    assert comparison.baselines.additive_latency_s == pytest.approx(0.045 + 0.006 + wire_s)
    assert comparison.baselines.additive_throughput_per_s == pytest.approx(8 / (0.051 + wire_s))
    assert comparison.baselines.overlap_throughput_per_s == pytest.approx(8 / wire_s)
    found = score([comparison]).additive_latency
    measured_s = comparison.latency.measured
    assert found is not None
    assert found.mape == pytest.approx(abs(0.051 + wire_s - measured_s) / measured_s)
