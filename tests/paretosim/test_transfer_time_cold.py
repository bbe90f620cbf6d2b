"""Cold connections: slow start by hand, against sending every segment, and what never changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.link import Link
from paretosim.prediction import predict
from paretosim.transfer_time import cold_stall_s, serialisation_s, slow_start_rounds, stall_s

NUMBERS = {"rate": st.floats(1e4, 1e10), "delay": st.floats(0, 2), "size": st.integers(0, 3_000_000)}


def _link(rate_bps: float, delay_s: float, return_delay_s: float = 0.0, **fields: Any) -> Link:
    return Link(
        **{
            "schema_version": 1, "name": "cold", "rate_bps": rate_bps, "return_rate_bps": rate_bps,
            "one_way_delay_s": delay_s, "return_delay_s": return_delay_s, "header_bytes": 66, "mss_bytes": 1448,
            "wmax_bytes": 3 * 2**20, **fields,
        }
    )  # fmt: skip


def _occupied_s(size: int, link: Link) -> float:
    return float(serialisation_s(size, link) + stall_s(size, link, "cold"))


def _every_segment_s(segments: int, tau_s: float, rtt_s: float, cap: int) -> float:
    """When the last of so many segments has left a sender that may send one more for each acknowledgement, plus it.

    Segment by segment: its own clock of sends and acknowledgements, and no rounds.
    """
    ends: list[float] = []
    acknowledged = 0
    for segment in range(segments):
        while segment >= acknowledged + min(cap, 10 + acknowledged):
            acknowledged += 1
        free = ends[-1] if ends else 0.0
        allowed = ends[acknowledged - 1] + rtt_s if acknowledged else 0.0
        ends.append(max(free, allowed) + tau_s)
    return ends[-1]


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 600), st.floats(1e-6, 0.1), st.floats(0, 5), st.integers(10, 300))
def test_it_is_what_sending_every_segment_and_acknowledgement_takes(n: int, tau: float, rtt: float, cap: int) -> None:
    found = n * tau + cold_stall_s(n, n * tau, rtt, mss_bytes=1000, wmax_bytes=1000 * cap)
    assert float(found) == pytest.approx(_every_segment_s(n, tau, rtt, cap), rel=1e-9)


def test_a_message_of_four_rounds_by_hand() -> None:
    # 100 segments of 1 ms, 10 + 20 + 30 + 30 + 10. With RTT 20 ms the first round waits 21 − 10 ms, the second 21 − 20.
    link = _link(8e6, 0.015, 0.005, header_bytes=0, mss_bytes=1000, wmax_bytes=30_000)
    assert float(serialisation_s(100_000, link)) == pytest.approx(0.1)
    assert float(stall_s(100_000, link, "cold")) == pytest.approx(0.012)


def test_a_message_within_the_initial_window_never_stalls() -> None:
    link = _link(1e9, 1.0)
    assert float(stall_s(10 * 1448, link, "cold")) == 0.0
    assert float(stall_s(10 * 1448 + 1, link, "cold")) > 0.9  # one segment more waits for the first acknowledgement


def test_a_message_of_exactly_so_many_windows_needs_no_further_round() -> None:
    windows, rounds = slow_start_rounds([0, 1, 10, 11, 30, 31, 60, 61], mss_bytes=1000, wmax_bytes=30_000)
    assert windows.tolist() == [10, 20, 30]
    assert rounds.sum(axis=0).tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


def test_a_window_below_ten_segments_is_the_initial_one() -> None:
    windows, rounds = slow_start_rounds([12], mss_bytes=1000, wmax_bytes=5_500)
    assert (windows.tolist(), rounds.tolist()) == ([5.5], [[2.0]])  # 5.5 + 5.5 + 1


def test_with_nothing_but_delay_a_message_costs_its_rounds_but_the_last() -> None:
    link = _link(1e15, 0.5, 0.5, wmax_bytes=2**40)
    assert _occupied_s(1448 * 150, link) == pytest.approx(3.0, rel=1e-6)  # 10 + 20 + 40 + 80 = 150: four rounds


def test_a_warm_connection_never_stalls() -> None:
    assert stall_s([[1, 10**9]], _link(1e9, 1.0), "warm").tolist() == [[0.0, 0.0]]


def test_messages_and_links_broadcast() -> None:
    n, rtt = np.array([1.0, 20.0, 500.0]), np.array([[0.0], [0.1], [1.0], [3.0]])
    found = cold_stall_s(n, n * 1e-3, rtt, mss_bytes=1448, wmax_bytes=2**20)
    one_by_one = [[float(cold_stall_s(a, a * 1e-3, r, mss_bytes=1448, wmax_bytes=2**20)) for a in n] for r in rtt[:, 0]]
    assert found.shape == (4, 3)
    assert found.tolist() == one_by_one


@settings(deadline=None, max_examples=200)
@given(NUMBERS["size"], NUMBERS["rate"], NUMBERS["delay"], st.floats(1, 100))
def test_never_faster_at_a_lower_rate(size: int, rate: float, delay: float, factor: float) -> None:
    fast, slow = _link(rate * factor, delay, delay), _link(rate, delay, delay)
    assert _occupied_s(size, slow) >= _occupied_s(size, fast) * (1 - 1e-9)


@settings(deadline=None, max_examples=200)
@given(NUMBERS["size"], NUMBERS["rate"], NUMBERS["delay"], NUMBERS["delay"])
def test_never_faster_with_more_delay(size: int, rate: float, delay: float, more: float) -> None:
    near, far = _link(rate, delay, delay), _link(rate, delay + more, delay)
    assert _occupied_s(size, far) >= _occupied_s(size, near) * (1 - 1e-9)


@settings(deadline=None, max_examples=200)
@given(NUMBERS["size"], st.integers(1, 5000), NUMBERS["rate"], NUMBERS["delay"])
def test_never_faster_with_more_bytes(size: int, more: int, rate: float, delay: float) -> None:
    link = _link(rate, delay, delay)
    assert _occupied_s(size + more, link) >= _occupied_s(size, link) * (1 - 1e-9)


def test_a_prediction_counts_the_stall_as_occupancy_of_the_link(toy: Any) -> None:
    link = toy.link(1e9, 0.25, return_delay_s=0.25)
    setting = toy.setting((0.1, 0.3), (0.2, 0.4), link=link, outputs=(5000, 10), inputs=100, tcp_state="cold")
    row = predict(setting).row(1)
    # 160 kB in 160 segments: 10 + 20 + 40 + 80 + 10 at a millisecond for all of them, so four round trips of waiting.
    assert row.links_s[0] == pytest.approx(160_000 * 8 / 1e9)
    assert row.stalls_s[0] == pytest.approx(2.0, rel=1e-3)
    assert row.period_s == pytest.approx(row.links_s[0] + row.stalls_s[0])
    assert row.bottleneck == "link1"
    assert row.latency_s == pytest.approx(sum((*row.stages_s, *row.links_s, *row.stalls_s, *row.delays_s)))


def test_every_hop_of_a_chain_starts_cold(toy: Any) -> None:
    link = toy.link(1e9, 0.25, return_delay_s=0.25)
    for options, hops in (({"sink": "first"}, ("link1", "return")), ({"source": "sink"}, ("input", "link1"))):
        found = predict(toy.setting(link=link, outputs=(5000, 5000), inputs=5000, tcp_state="cold", **options))
        assert found.hops == hops
        assert found.row(1).stalls_s == pytest.approx((2.0, 2.0), rel=1e-3)
    kept = predict(toy.setting(link=link, outputs=(5000, 5000), tcp_state="cold", sink="first")).row(2)
    assert kept.stalls_s == (0.0, 0.0)  # the result is where it is wanted


def test_predict_says_that_the_connection_is_cold(
    command: Callable[..., tuple[int, str, str]], profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETOSIM_PROFILES", str(profiles))
    options = ("predict", "--model", "toy", "--devices", "one,two", "--delay", "200ms", "--tcp-state", "cold")
    assert "back; TCP cold" in command(*options)[1]
    found = json.loads(command(*options, "--json")[1])
    assert found["tcp_state"] == "cold"
    assert found["identity"] != json.loads(command(*options[:-1], "warm", "--json")[1])["identity"]
