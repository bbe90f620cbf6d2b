"""Links: shaping as tc does it, reading RATE,DELAY, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from paretosim.errors import BadInputError
from paretosim.link import HEADER_BYTES_SHAPED, parse_link, shaped


def test_a_rate_is_set_both_ways_with_the_headers_a_qdisc_counts(toy: Any) -> None:
    link = shaped(toy.link(1e9, 0.001, return_delay_s=0.002, header_bytes=90), rate_bps=5e6)
    assert (link.rate_bps, link.return_rate_bps, link.header_bytes) == (5e6, 5e6, HEADER_BYTES_SHAPED)
    assert (link.one_way_delay_s, link.return_delay_s) == (0.001, 0.002)


def test_a_delay_is_set_forward_only_so_that_a_round_trip_waits_it_once(toy: Any) -> None:
    link = shaped(toy.link(1e9, 0.001, return_delay_s=0.002, header_bytes=90), one_way_delay_s=0.2)
    assert (link.one_way_delay_s, link.return_delay_s) == (0.2, 0.002)
    assert link.rtt_s == pytest.approx(0.202)
    assert (link.rate_bps, link.header_bytes) == (1e9, 90)


def test_a_round_trip_is_spread_over_both_directions(toy: Any) -> None:
    link = shaped(toy.link(), rtt_s=0.3)
    assert (link.one_way_delay_s, link.return_delay_s, link.rtt_s) == (0.15, 0.15, 0.3)


def test_what_nothing_is_asked_of_stays_as_it_is(toy: Any) -> None:
    link = toy.link()
    assert shaped(link) is link


def test_a_delay_of_zero_is_asked_for_too(toy: Any) -> None:
    assert shaped(toy.link(delay_s=0.5), one_way_delay_s=0.0).one_way_delay_s == 0


def test_a_delay_and_a_round_trip_together_are_refused(toy: Any) -> None:
    with pytest.raises(BadInputError, match="got both a one-way delay and a round trip"):
        shaped(toy.link(), one_way_delay_s=0.1, rtt_s=0.2)


def test_the_reverse_of_the_reverse_is_the_link(toy: Any) -> None:
    link = toy.link(5e6, 0.2, return_delay_s=0.01, return_rate_bps=1e9)
    back = link.reverse()
    assert (back.rate_bps, back.one_way_delay_s) == (1e9, 0.01)
    assert back.reverse() == link


def test_a_link_is_read_as_rate_and_delay(toy: Any) -> None:
    link = parse_link("5mbit,200ms", toy.link(1e9))
    assert (link.rate_bps, link.one_way_delay_s, link.name) == (5e6, 0.2, "5mbit,200ms")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5mbit", "expected a preset's name or RATE,DELAY"),
        ("5mbit,", "link delay: got ''"),
        (",200ms", "link rate: got ''"),
        ("5mbit,200ms,1", "link delay: got '200ms,1'"),
        ("5mbps,200ms", "link rate: .*megabytes"),
    ],
)
def test_what_is_no_link_is_refused(toy: Any, text: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        parse_link(text, toy.link())


@pytest.mark.parametrize("field", ["rate_bps", "return_rate_bps", "mss_bytes", "wmax_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_rates_and_sizes_have_to_be_above_zero(toy: Any, field: str, value: float) -> None:
    with pytest.raises(BadInputError, match=f"{field}: got {value}, expected a finite number above zero"):
        toy.link(**{field: value})


@pytest.mark.parametrize("value", [-1e-9, float("nan"), float("inf")])
def test_delays_have_to_be_finite_and_not_negative(toy: Any, value: float) -> None:
    with pytest.raises(BadInputError, match="one_way_delay_s: got"):
        toy.link(delay_s=value)
    with pytest.raises(BadInputError, match="return_delay_s: got"):
        toy.link(return_delay_s=value)


def test_a_round_trip_has_to_be_a_number(toy: Any) -> None:
    with pytest.raises(BadInputError, match="too large to add"):
        toy.link(delay_s=1.7e308, return_delay_s=1.7e308)


def test_another_schema_is_refused(toy: Any) -> None:
    with pytest.raises(BadInputError, match="schema_version: got 2, expected 1"):
        toy.link(schema_version=2)
