"""Units: what tc reads, in tc's meaning, and clear refusals of the rest."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.units import format_bytes, format_duration, format_number, format_rate, parse_duration_s, parse_rate_bps


@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [
        ("5mbit", 5e6), ("1gbit", 1e9), ("2.5gbit", 2.5e9), ("1tbit", 1e12), ("300kbit", 3e5), ("9600bit", 9600),
        ("9600", 9600), ("512kibit", 512 * 1024), ("1mibit", 2**20), ("1gibit", 2**30), ("1tibit", 2**40),
        ("5MBit", 5e6), ("5Mbit", 5e6), (" 5mbit ", 5e6), (".5mbit", 5e5), ("5.mbit", 5e6), ("5e3kbit", 5e6),
        ("+5mbit", 5e6),
    ],
)  # fmt: skip
def test_rates_are_read_as_tc_reads_them(text: str, rate_bps: float) -> None:
    assert parse_rate_bps(text) == rate_bps


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("200ms", 0.2), ("100us", 1e-4), ("1.5s", 1.5), ("2sec", 2), ("2secs", 2), ("7msec", 0.007), ("7msecs", 0.007),
        ("3usec", 3e-6), ("3usecs", 3e-6), ("40ns", 4e-8), ("0", 0), ("0.0", 0), ("0ms", 0), ("200MS", 0.2),
    ],
)  # fmt: skip
def test_times_are_read_as_tc_reads_them(text: str, duration_s: float) -> None:
    assert parse_duration_s(text) == duration_s


BAD = ["", " ", "mbit", "5 mbit", "5 potatoes", "5potatoes", "nan", "inf", "-inf", "infinity", "1e400mbit", "0x10mbit",
       "1_000mbit", "５mbit", "٣mbit", "5\u212abit", "5mbit\x00", "1,5mbit", "--5mbit", "5mbit5",
       "½mbit", "5%"]  # fmt: skip


@pytest.mark.parametrize("text", [*BAD, "0mbit", "0", "-5mbit", "1e-400mbit", "5ms", "5s"])
def test_what_is_no_rate_is_refused_with_what_was_got_and_expected(text: str) -> None:
    with pytest.raises(
        BadInputError, match=r"^--bw: got '.*expected.*5mbit|^--bw: got '0|^--bw: got '1e-400"
    ) as refusal:
        parse_rate_bps(text, "--bw")
    assert "got" in str(refusal.value)


@pytest.mark.parametrize(
    "text", [*(b.replace("mbit", "ms") for b in BAD if b != "5\u212abit"), "-1ms", "-0.1us", "5mbit", "5mbps"]
)
def test_what_is_no_time_is_refused_with_what_was_got_and_expected(text: str) -> None:
    with pytest.raises(BadInputError, match=r"^--delay: got '.*expected.*200ms"):
        parse_duration_s(text, "--delay")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5mbps", "tc reads as megabytes per second and most people as megabits; write 5mbit for bits, or 40mbit"),
        ("2.5kbps", "kilobytes per second and most people as kilobits; write 2.5kbit for bits, or 20kbit"),
        ("1gibps", "gibibytes per second and most people as gibibits; write 1gibit for bits, or 8gibit"),
        ("7bps", "as bytes per second and most people as bits; write 7bit for bits, or 56bit"),
    ],
)  # fmt: skip
def test_bps_is_refused_and_both_readings_are_named(text: str, said: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        parse_rate_bps(text, "--bw")
    assert said in str(refusal.value)


@pytest.mark.parametrize("text", ["1", "0.5", "200", "1e-3"])
def test_a_time_without_a_unit_is_refused_and_its_readings_are_named(text: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        parse_duration_s(text, "--delay")
    number = f"{float(text):g}"
    assert str(refusal.value) == (
        f"--delay: got '{text}', expected a unit: tc reads a bare number as microseconds or as nanoseconds, by its"
        f" version, and most people as seconds or milliseconds; write {number}s, {number}ms or {number}us"
    )


def test_refusals_say_why_and_list_the_units() -> None:
    with pytest.raises(BadInputError, match="not negative"):
        parse_duration_s("-1ms")
    with pytest.raises(BadInputError, match="too large for a number"):
        parse_rate_bps("1e400mbit")
    with pytest.raises(BadInputError, match="more than zero: nothing would ever arrive"):
        parse_rate_bps("0mbit")
    with pytest.raises(BadInputError, match=r"expected a unit of .*mbit.*kibit"):
        parse_rate_bps("5potatoes")


@pytest.mark.parametrize("text", ["1" * 300_000 + "!", "9" * 300_000 + "mbit", "5" + "m" * 300_000, "." * 300_000])
def test_very_long_texts_are_refused_at_once_in_a_short_message(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(BadInputError) as refusal:
        parse_rate_bps(text)
    assert len(str(refusal.value)) < 300
    assert time.perf_counter() - started < 2  # backtracking would take minutes


@settings(deadline=None)
@given(st.floats(min_value=1e-3, max_value=1e15))
def test_a_formatted_rate_reads_back(rate_bps: float) -> None:
    text = format_rate(rate_bps)
    assert math.isclose(parse_rate_bps(text), rate_bps, rel_tol=1e-5)
    assert format_rate(parse_rate_bps(text)) == text


@settings(deadline=None)
@given(st.floats(min_value=1e-12, max_value=1e9) | st.just(0.0))
def test_a_formatted_time_reads_back(duration_s: float) -> None:
    text = format_duration(duration_s)
    assert math.isclose(parse_duration_s(text), duration_s, rel_tol=1e-5)
    assert format_duration(parse_duration_s(text)) == text


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_gives_a_number_or_a_refusal(text: str) -> None:
    for parse in (parse_rate_bps, parse_duration_s):
        try:
            value = parse(text)
        except BadInputError:
            continue
        assert math.isfinite(value)
        assert value >= 0


def test_numbers_for_people() -> None:
    assert format_duration(0.9996, digits=3, gap=" ") == "1 s"  # not 1000 ms, not 1e+03 ms
    assert format_duration(1643.2, digits=3, gap=" ") == "1640 s"
    assert format_duration(0, gap=" ") == "0 s"
    assert format_rate(999_999.9) == "1mbit"
    assert format_number(15187.3, 4) == "15190"
    assert format_number(0, 4) == "0"
    assert [format_bytes(size) for size in (320, 2.4e6, 999_960, 3.5e9)] == ["320 B", "2.4 MB", "1.0 MB", "3.5 GB"]
