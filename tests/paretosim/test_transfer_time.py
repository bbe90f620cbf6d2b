"""Transfer time: segments, headers and the window's cap on the rate, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.transfer_time import effective_rate_bps, serialisation_s


def test_every_segment_begun_carries_a_header(toy: Any) -> None:
    link = toy.link(8e3, header_bytes=50, mss_bytes=1000)  # a byte takes 1 ms
    sizes = np.array([0, 1, 1000, 1001, 2500])
    assert serialisation_s(sizes, link) == pytest.approx([0.0, 0.051, 1.05, 1.101, 2.65])


def test_the_shape_of_the_sizes_is_kept(toy: Any) -> None:
    assert serialisation_s(np.ones((2, 3)), toy.link()).shape == (2, 3)
    assert serialisation_s(5, toy.link()).shape == ()


def test_a_window_a_round_trip_caps_the_rate(toy: Any) -> None:
    link = toy.link(1e9, 0.1, return_delay_s=0.1, wmax_bytes=100_000)
    assert effective_rate_bps(link) == 8 * 100_000 / 0.2
    assert effective_rate_bps(toy.link(1e6, 0.1, return_delay_s=0.1, wmax_bytes=100_000)) == 1e6
    assert effective_rate_bps(toy.link(1e9, wmax_bytes=1)) == 1e9  # no round trip, no cap


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 10**9), st.integers(0, 10**9), st.floats(1e3, 1e11), st.floats(1, 100),
    st.floats(0, 5), st.floats(0, 5),
)  # fmt: skip
def test_a_message_never_takes_longer_on_a_better_link_or_when_smaller(
    toy: Any, size: int, more: int, rate_bps: float, faster: float, delay_s: float, longer_s: float
) -> None:
    worse = toy.link(rate_bps, delay_s + longer_s, header_bytes=66, wmax_bytes=3 * 2**20)
    better = toy.link(rate_bps * faster, delay_s, header_bytes=66, wmax_bytes=3 * 2**20)
    assert serialisation_s(size, better) <= serialisation_s(size, worse)
    assert serialisation_s(size, worse) <= serialisation_s(size + more, worse)
    assert serialisation_s(size, worse) >= size * 8 / rate_bps  # the wire floor


def test_a_rate_too_low_for_a_number_takes_forever_without_a_warning(toy: Any) -> None:
    assert np.isinf(serialisation_s(10**9, toy.link(1e-305)))
