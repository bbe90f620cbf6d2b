"""Stage times whose sums are exact, and the hops that a batch crosses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.chain import hops_of, splits_of, stage_times_s
from paretosim.errors import BadInputError
from paretosim.prediction import predict

# Not below what divided by a speed is still a normal number: those have fewer digits than their sums.
SECONDS = st.just(0.0) | st.floats(1e-300, 1e3)
TIMES = st.lists(SECONDS, min_size=1, max_size=40)


@settings(deadline=None, max_examples=200)
@given(TIMES, st.sampled_from([1e-9, 1.0, 1e6]), st.sampled_from([1.0, 3.0, 20.0]))
def test_on_two_equal_devices_every_split_computes_as_long_to_the_last_bit(
    times: list[float], scale: float, speed: float
) -> None:
    scaled = [time * scale for time in times]
    stages_s = stage_times_s((scaled, scaled), splits_of(len(times), "all"), speed)
    assert len(set(stages_s.sum(axis=1).tolist())) == 1


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=40), st.sampled_from([1.0, 7.0]))
def test_stage_times_are_the_sums_of_their_blocks(times: list[tuple[float, float]], speed: float) -> None:
    first, second = zip(*times, strict=True)
    total = sum(first) + sum(second)
    for split, (one, two) in enumerate(stage_times_s((first, second), splits_of(len(times), "all"), speed)):
        assert one == pytest.approx(sum(first[:split]) / speed, abs=1e-14 * total)
        assert two == pytest.approx(sum(second[split:]) / speed, abs=1e-14 * total)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e300])
def test_the_shortest_and_the_longest_times_are_kept(scale: float) -> None:
    stages_s = stage_times_s(([scale, scale], [scale, scale]), splits_of(2, "all"))
    expected = np.array([[0, 2], [1, 1], [2, 0]]) * scale
    np.testing.assert_allclose(stages_s, expected, rtol=1e-14, atol=0)


def test_splits_that_send_as_much_tie_in_latency_on_equal_devices(toy: Any) -> None:
    times = (0.1, 0.2, 0.3, 0.7)
    latencies = [row.latency_s for row in predict(toy.setting(times, times, outputs=(50, 50, 50, 50), inputs=50)).rows]
    assert len(set(latencies)) == 1


def test_interior_splits_leave_a_block_on_each_device() -> None:
    assert splits_of(3, "interior").tolist() == [1, 2]
    assert splits_of(3, "all").tolist() == [0, 1, 2, 3]
    with pytest.raises(BadInputError, match=r"got interior of 1 block\(s\), expected two blocks or more"):
        splits_of(1, "interior")


CUTS = np.array([100, 30, 7])


def _hops(source: Any, sink: Any) -> list[tuple[str, bool, list[int], list[bool]]]:
    found = hops_of(CUTS, np.arange(3), source=source, sink=sink)
    return [(hop.name, hop.forward, hop.payload_bytes.tolist(), hop.crossed.tolist()) for hop in found]


def test_the_activation_crosses_once_where_the_data_is_first_and_the_sink_last() -> None:
    assert _hops("stage1", "last") == [("link1", True, [100, 30, 7], [True] * 3)]


def test_the_input_of_a_sink_that_is_last_comes_back_first() -> None:
    assert _hops("sink", "last")[0] == ("input", False, [100] * 3, [True] * 3)


def test_the_output_returns_to_a_sink_that_is_first_unless_it_is_there() -> None:
    expected = [
        ("link1", True, [100, 30, 0], [True, True, False]), ("return", False, [7, 7, 0], [True, True, False]),
    ]  # fmt: skip
    assert _hops("stage1", "first") == expected
    assert _hops("sink", "first") == expected  # the source is at the sink, and both are first
