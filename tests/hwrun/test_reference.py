"""What a pipeline's output is held against."""

import pytest
import torch

from hwrun.reference import RELATIVE_LIMIT, OutputDiffersError, compare, require_equal


def test_equal_outputs_are_equal_bit_for_bit():
    check = compare([torch.tensor([1.0, -2.0])], [torch.tensor([1.0, -2.0])])
    assert (check.bitwise_equal, check.max_abs_difference, check.relative_difference) == (True, 0.0, 0.0)
    require_equal(check)


def test_differences_are_relative_to_the_largest_value_expected():
    check = compare([torch.tensor([1.0, -2.5])], [torch.tensor([1.0, -2.0])])
    assert (check.bitwise_equal, check.max_abs_difference, check.relative_difference) == (False, 0.5, 0.25)
    with pytest.raises(OutputDiffersError, match=r"0\.25 from the unsplit model's, expected at most 0\.0001"):
        require_equal(check)


def test_a_difference_of_rounding_is_told_and_permitted():
    check = compare([torch.tensor([1.0 + 1e-6])], [torch.tensor([1.0])])
    assert not check.bitwise_equal
    assert 0 < check.relative_difference < RELATIVE_LIMIT
    require_equal(check)


@pytest.mark.parametrize(
    "outputs", [[torch.ones(3)], [torch.ones(2), torch.ones(2)], [torch.tensor([1.0, float("nan")])]]
)
def test_other_shapes_and_values_that_are_no_numbers_are_refused(outputs):
    with pytest.raises(OutputDiffersError, match="output:"):
        compare(outputs, [torch.ones(2)])


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused_in_whichever_output_it_is(position, value):
    outputs = [torch.ones(2) for _ in range(3)]
    outputs[position][1] = value
    with pytest.raises(OutputDiffersError, match=r"output: differs by (nan|inf) from values up to 1\.0"):
        compare(outputs, [torch.ones(2)] * 3)
