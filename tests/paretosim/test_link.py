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
        ("5mbit,200ms,1", "got '1' in '5mbit,200ms,1', expected RATE,DELAY and then jitter=TIME"),
        ("5mbit,200ms,loss=1%,loss=2%", "each once at most"),
        ("5mbit,200ms,loss=0.1", "link loss: got '0.1', expected 0% to below 100%"),
        ("5mbit,200ms,loss=100%", "link loss: got '100%'"),
        ("5mbit,200ms,jitter=201ms", "jitter_s: got 0.201, expected 0 up to the delay of that direction, 0.2"),
        ("5mbit,200ms,limit=1000", "link limit: got '1000', expected whole bytes as B, kB, MB or GB"),
        ("5mbit,200ms,limit=1kB", "limit_bytes: got 1000, expected room for one frame"),
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


def test_jitter_loss_and_limit_are_read_set_forward_and_part_of_the_name(toy: Any) -> None:
    link = parse_link("20mbit,20ms,limit=300kB,loss=0.1%,jitter=2ms", toy.link())
    assert (link.jitter_s, link.loss, link.limit_bytes) == (0.002, 0.001, 300_000)
    assert (link.return_jitter_s, link.return_loss) == (0, 0)
    assert link.name == "20mbit,20ms,jitter=2ms,loss=0.1%,limit=300kB"
    assert parse_link(link.name, toy.link()) == link


def test_the_reverse_has_the_jitter_and_loss_of_the_way_back(toy: Any) -> None:
    back = parse_link("20mbit,20ms,jitter=2ms,loss=0.1%", toy.link()).reverse()
    assert (back.jitter_s, back.loss, back.return_jitter_s, back.return_loss) == (0, 0, 0.002, 0.001)


def test_a_link_with_jitter_or_loss_is_not_predicted_with(toy: Any) -> None:
    parse_link("20mbit,20ms,limit=300kB", toy.link()).check_predictable()
    with pytest.raises(BadInputError, match=r"has jitter 0s and loss 0.1%, which no prediction knows"):
        parse_link("20mbit,20ms,loss=0.1%", toy.link()).check_predictable()
    with pytest.raises(BadInputError, match=r"has jitter 2ms and loss 0%"):
        parse_link("20mbit,20ms,jitter=2ms", toy.link()).reverse().check_predictable()
