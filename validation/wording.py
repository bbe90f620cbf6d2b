"""Numbers for people: shares, errors, intervals and times as every rendering of a report writes them."""

from __future__ import annotations

from paretosim.units import format_duration

NONE = "–"


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction for people; a dash for none, and never 0.0 of what is not.

    >>> percent(0.0132), percent(0.0002)
    ('1.3 %', '<0.1 %')
    """
    if fraction is None:
        return NONE
    smallest = 10.0**-digits
    if 1e-9 < fraction * 100 < smallest / 2:
        return f"<{smallest:g} %"
    return f"{fraction * 100:.{digits}f} %"


def percent_range(interval: tuple[float, float] | None, digits: int = 1) -> str:
    """An interval of fractions.

    >>> percent_range((0.011, 0.014)), percent_range(None)
    ('1.1–1.4 %', '')
    """
    return "" if interval is None else f"{interval[0] * 100:.{digits}f}–{interval[1] * 100:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """Seconds to four digits, in the unit that suits."""
    if seconds is None:
        return NONE
    # Differences may be negative, and what is below a nanosecond is nothing.
    sign = "−" if seconds < 0 else ""
    return sign + format_duration(float(f"{abs(seconds):.4g}")) if abs(seconds) >= 1e-9 else "0s"


def signed(error: float | None) -> str:
    """A signed relative error in per cent, two digits where it is below ten.

    >>> signed(-0.0123), signed(0.5)
    ('-1.23 %', '+50.0 %')
    """
    if error is None:
        return NONE
    digits = 1 if abs(error) >= 0.1 else 2
    return f"{round(error * 100, digits) + 0.0:+.{digits}f} %"  # + 0.0: no negative zero


def count(number: int, what: str) -> str:
    """A number with its noun.

    >>> count(1, "cell"), count(2, "cell")
    ('1 cell', '2 cells')
    """
    return f"{number} {what}{'s' * (number != 1)}"
