"""Units at the edge: what `tc` reads, with tc's meaning, to SI and back for display.

`tc` (iproute2, tc(8) "PARAMETERS") reads a bare rate as bits per second, takes SI (`mbit`) and IEC (`mibit`)
prefixes, and reads `mbps` as mega*bytes* per second. That last reading surprises nearly everybody, so every `…bps`
spelling is refused with both meanings named. So is a bare time, which the manual says is in microseconds and which
netem, since its times have 64 bits, takes as nanoseconds (`get_time` and `get_time64` in tc's source).
"""

from __future__ import annotations

import math
import re

from paretosim.errors import BadInputError

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_PREFIXES |= {"ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}
_BITS_PER_S = {f"{prefix}bit": factor for prefix, factor in _PREFIXES.items()} | {"": 1.0}
_BYTES_PER_S = {f"{prefix}bps": factor for prefix, factor in _PREFIXES.items()}
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs"), 1e-3),
    **dict.fromkeys(("us", "usec", "usecs"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nsecs"), 1e-9),
}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_PREFIX_NAMES = {
    "k": "kilo",
    "m": "mega",
    "g": "giga",
    "t": "tera",
    "ki": "kibi",
    "mi": "mebi",
    "gi": "gibi",
    "ti": "tebi",
}
# One way only to match each text, so that a long one fails as fast as it is read.
_NUMBER_AND_UNIT = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)([a-z]*)", re.ASCII)
_SHOWN_CHARACTERS = 40


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    # ASCII first: lower() turns a few other letters, such as the Kelvin sign, into ASCII ones.
    match = _NUMBER_AND_UNIT.fullmatch(text.strip().lower()) if text.isascii() else None
    if match is None:
        raise BadInputError(f"{what}: got {_shown(text)}, expected a number and a unit such as {example}")
    number, unit = float(match[1]), match[2]
    if number < 0:
        raise BadInputError(f"{what}: got {_shown(text)}, expected a value that is not negative, such as {example}")
    return number, unit


def _shown(text: str) -> str:
    """The text as an error message quotes it."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")


def parse_rate_bps(text: str, what: str = "rate") -> float:
    """Bits per second of a rate written as tc reads it.

    Parameters
    ----------
    text : `5mbit`, `1gbit`, `512kibit`; a bare number is bits per second.
    what : name of the option, for the error message.

    Raises
    ------
    BadInputError : not a number with a known unit, zero, negative, not finite, or a `…bps` spelling.

    >>> parse_rate_bps("5mbit")
    5000000.0
    """
    number, unit = _split(text, what, "5mbit")
    if unit in _BYTES_PER_S:
        prefix = unit.removesuffix("bps")
        words = _PREFIX_NAMES.get(prefix, "")
        raise BadInputError(
            f"{what}: got {_shown(text)}, which tc reads as {words}bytes per second and most people as {words}bits;"
            f" write {number:g}{prefix}bit for bits, or {number * 8:g}{prefix}bit for what tc would set"
        )
    if unit not in _BITS_PER_S:
        raise BadInputError(f"{what}: got {_shown(text)}, expected a unit of {_listing(_BITS_PER_S)}, such as 5mbit")
    rate_bps = number * _BITS_PER_S[unit]
    if not math.isfinite(rate_bps):
        raise BadInputError(f"{what}: got {_shown(text)}, which is too large for a number; expected e.g. 5mbit")
    if rate_bps == 0:
        raise BadInputError(f"{what}: got {_shown(text)}, expected more than zero: nothing would ever arrive")
    return rate_bps


def parse_duration_s(text: str, what: str = "time") -> float:
    """Seconds of a time written as tc reads it: `200ms`, `100us`, `1.5s`, and 0 with or without a unit.

    Raises
    ------
    BadInputError : not a number with a known unit, negative or not finite, or a bare number other than 0.

    >>> parse_duration_s("200ms")
    0.2
    """
    number, unit = _split(text, what, "200ms")
    if not unit and number == 0:
        return 0.0
    if not unit:
        raise BadInputError(
            f"{what}: got {_shown(text)}, expected a unit: tc reads a bare number as microseconds or as nanoseconds, by"
            f" its version, and most people as seconds or milliseconds; write {number:g}s, {number:g}ms or {number:g}us"
        )
    if unit not in _SECONDS:
        raise BadInputError(f"{what}: got {_shown(text)}, expected a unit of {_listing(_SECONDS)}, such as 200ms")
    # Dividing by the exact power of ten keeps 200ms == 0.2, which multiplying by 1e-3 does not promise.
    duration_s = number / round(1 / _SECONDS[unit])
    if not math.isfinite(duration_s):
        raise BadInputError(f"{what}: got {_shown(text)}, which is too large for a number; expected e.g. 200ms")
    return duration_s


def parse_fraction(text: str, what: str = "share") -> float:
    """The fraction that a percentage says; the sign % is required, since tc reads a bare number as either.

    Raises
    ------
    BadInputError : no percentage from 0 to below 100.

    >>> parse_fraction("0.1%")
    0.001
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)%", text.strip(), re.ASCII)
    if match is None or not float(match[1]) < 100:
        raise BadInputError(f"{what}: got {_shown(text)}, expected 0% to below 100%, such as 0.1%")
    return float(match[1]) / 100


def parse_size_bytes(text: str, what: str = "size") -> int:
    """Bytes of a size in decimal units: `1500B`, `64kB`, `1.5MB`, `2GB`.

    tc reads `kb` as 1024 bytes and `kbit` as bits, so neither a bare number nor another spelling is taken.

    Raises
    ------
    BadInputError : not a number with one of these units, negative, or no whole number of bytes.

    >>> parse_size_bytes("64kB")
    64000
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(B|kB|MB|GB)", text.strip(), re.ASCII)
    size_bytes = float(match[1]) * _BYTES[match[2]] if match else math.nan
    if match is None or not math.isfinite(size_bytes) or round(size_bytes, 6) % 1:
        raise BadInputError(f"{what}: got {_shown(text)}, expected whole bytes as B, kB, MB or GB, such as 64kB")
    return round(size_bytes)


def _listing(units: dict[str, float]) -> str:
    return ", ".join(unit for unit in units if unit)


def format_rate(rate_bps: float) -> str:
    """A rate for people, readable back by `parse_rate_bps`.

    >>> format_rate(5e6)
    '5mbit'
    """
    return _scaled(rate_bps, (("tbit", 1e12), ("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)))


def format_duration(duration_s: float, *, digits: int = 6, gap: str = "") -> str:
    """A time for people; without a gap, readable back by `parse_duration_s`.

    >>> format_duration(0.2), format_duration(1.23456, digits=3, gap=" ")
    ('200ms', '1.23 s')
    """
    if duration_s == 0:
        return f"0{gap}s"
    return _scaled(duration_s, (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)), digits, gap)


def format_percent(fraction: float) -> str:
    """A fraction as a percentage, readable back by `parse_fraction`.

    >>> format_percent(0.001)
    '0.1%'
    """
    return f"{format_number(fraction * 100, 6)}%"


def format_size(size_bytes: int) -> str:
    """A size that is readable back by `parse_size_bytes`, to the byte.

    >>> format_size(64000), format_size(1514)
    ('64kB', '1514B')
    """
    for unit in ("GB", "MB", "kB"):
        if size_bytes and size_bytes % int(_BYTES[unit]) == 0:
            return f"{size_bytes // int(_BYTES[unit])}{unit}"
    return f"{size_bytes}B"


def format_bytes(size_bytes: float) -> str:
    """A size for people, in decimal units.

    >>> format_bytes(102_760_448)
    '102.8 MB'
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size_bytes) >= factor * (1 - 5e-5):  # 999 950 bytes round to 1.0 MB, not to 1000.0 kB
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def format_number(value: float, digits: int) -> str:
    """`value` to that many significant digits, never with an exponent above 1.

    >>> format_number(12345.6, 3), format_number(0.0123456, 3)
    ('12300', '0.0123')
    """
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:.0f}" if 10**digits <= abs(rounded) < 1e15 else f"{rounded:.{digits}g}"


def _scaled(value: float, steps: tuple[tuple[str, float], ...], digits: int = 6, gap: str = "") -> str:
    value = float(f"{value:.{digits}g}")  # rounded before the unit is chosen: 0.9996 s is 1 s, not 1000 ms
    for unit, factor in steps:
        if abs(value) >= factor * (1 - 1e-12):
            return f"{format_number(value / factor, digits)}{gap}{unit}"
    unit, factor = steps[-1]
    return f"{format_number(value / factor, digits)}{gap}{unit}"
