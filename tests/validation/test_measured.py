"""Noise floors and relative errors, computed by hand."""

from __future__ import annotations

import pytest

from validation.measured import MAD_TO_SIGMA, noise_floor, quantity, relative_error


def test_floor_between_repeats_is_half_the_range_over_the_median() -> None:
    assert noise_floor([1.0, 1.2, 0.9], []) == (pytest.approx(0.15), "between repeats")


def test_floor_of_one_repeat_is_the_scaled_deviation_of_its_batches_and_says_so() -> None:
    # median 10, deviations 1, 0, 1, 3, 0: median 1
    floor, basis = noise_floor([10.0], [9.0, 10.0, 11.0, 13.0, 10.0])
    assert basis == "within one repeat"
    assert floor == pytest.approx(MAD_TO_SIGMA * 0.1)


@pytest.mark.parametrize("within", [[], [1.0], [1.0, 2.0]])
def test_floor_of_one_repeat_with_too_few_batches_is_unknown_and_not_zero(within: list[float]) -> None:
    assert noise_floor([1.0], within) == (None, "unknown")


def test_range_is_that_of_the_repeats_and_of_the_floor_where_there_is_one_repeat() -> None:
    several = quantity([2.0, 4.0, 3.0], [], predicted=3.3)
    assert (several.measured, several.low, several.high) == (3.0, 2.0, 4.0)
    assert several.error == pytest.approx(0.1)
    once = quantity([10.0], [9.0, 10.0, 11.0], predicted=10.0)
    assert (once.low, once.high) == (pytest.approx(10 - 10 * 0.14826), pytest.approx(10 + 10 * 0.14826))


def test_error_is_signed_and_relative_to_the_measurement() -> None:
    assert relative_error(0.9, 1.2) == pytest.approx(-0.25)


def test_an_empty_stage_has_no_relative_error() -> None:
    assert relative_error(1.0, 0.0) is None
    assert relative_error(0.0, 1e-6) is None
