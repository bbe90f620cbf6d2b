"""A link whose rate and delay change over time, read from a CSV, and how long messages take on it.

Between two times rate and delay hold still. A message that spans a change is served at each rate for its part. What
has left arrives after the delay at which it left, and in order: a message has arrived when its slowest byte has.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from pathlib import Path

import msgspec

from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.units import parse_duration_s, parse_rate_bps

_COLUMNS = (("time", "time_s"), ("rate", "rate_bps"), ("delay", "delay_s"))


class LinkTrace(msgspec.Struct, frozen=True, kw_only=True):
    """`rates_bps[i]` and `delays_s[i]` hold from `times_s[i]` on, the last ones without end. Times rise from 0.

    A rate of 0 is an outage.
    """

    times_s: tuple[float, ...]
    rates_bps: tuple[float, ...]
    delays_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.times_s or not len(self.times_s) == len(self.rates_bps) == len(self.delays_s):
            raise BadInputError("trace: got no row, or columns of different lengths; expected time, rate and delay")
        if self.times_s[0] != 0:
            raise BadInputError(f"trace: the first time is {self.times_s[0]:g} s, expected 0")
        if any(not a < b < math.inf for a, b in zip(self.times_s, self.times_s[1:], strict=False)):
            raise BadInputError("trace: times do not rise, expected each later than the one before")
        for values, what in ((self.rates_bps, "rate"), (self.delays_s, "delay")):
            if any(not 0 <= value < math.inf for value in values):
                raise BadInputError(f"trace: got a {what} that is negative or not finite")
        if self.rates_bps[-1] == 0:
            raise BadInputError("trace: the last rate is 0, expected more: nothing would ever arrive")

    def capped(self, wmax_bytes: int, return_delay_s: float) -> LinkTrace:
        """The same with no rate above a full window a round trip."""
        round_trips = [delay + return_delay_s for delay in self.delays_s]
        rates = tuple(
            min(rate, 8 * wmax_bytes / rtt) if rtt > 0 else rate
            for rate, rtt in zip(self.rates_bps, round_trips, strict=True)
        )
        return msgspec.structs.replace(self, rates_bps=rates)

    def piece(self, time_s: float) -> int:
        """Number of the row that holds at that time."""
        return bisect_right(self.times_s, time_s) - 1

    def sent_s(self, start_s: float, bits: float) -> float:
        """When that many bits have left that begin to at `start_s`.

        >>> LinkTrace(times_s=(0, 2), rates_bps=(10, 20), delays_s=(0, 0)).sent_s(1, 30)  # 10 bits in 1 s, 20 in 1 s
        3.0
        """
        piece, now, left = self.piece(start_s), start_s, bits
        while left > 0:
            rate = self.rates_bps[piece]
            until = self.times_s[piece + 1] if piece + 1 < len(self.times_s) else math.inf
            if rate > 0 and now + left / rate <= until:
                return now + left / rate
            left -= rate * (until - now)
            now, piece = until, piece + 1
        return now

    def arrived_s(self, start_s: float, end_s: float) -> float:
        """When all of a message has arrived that leaves from `start_s` to `end_s`."""
        first = self.piece(start_s)
        # The last byte left before `end_s`: where that is a change, the delay before it holds.
        last = max(first, bisect_left(self.times_s, end_s) - 1)
        arrivals = [self.times_s[piece + 1] + self.delays_s[piece] for piece in range(first, last)]
        return max([*arrivals, end_s + self.delays_s[last]])


def read_link_trace(path: Path, link: Link, *, forward_given: str = "") -> LinkTrace:
    """The trace in a CSV of time, rate and delay, with an optional heading.

    Plain numbers are seconds, bits per second and seconds; `100ms`, `5mbit` are read as tc does. Without the third
    column, the delay is that of `link`. Lines that start with # are left out.

    Parameters
    ----------
    forward_given : the option that set a delay for the way forward, if one did: a third column would override it.

    Raises
    ------
    BadInputError : a line that is not that, times that do not rise from 0; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"--trace: {path} cannot be read as text: {error}; expected a CSV") from error
    rows: list[tuple[float, float, float]] = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip(' "') for cell in line.split(",")]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not rows and all(cell.lower() in names for cell, names in zip(cells, _COLUMNS, strict=False)):
            continue
        where = f"{path}, line {number}"
        if len(cells) not in (2, 3):
            raise BadInputError(f"{where}: got {len(cells)} columns, expected time, rate and delay")
        if len(cells) == 3 and forward_given:
            raise BadInputError(
                f"{forward_given}: sets the delay forward, and so does {where}; expected one of them: without that"
                " column every row has the link's delay"
            )
        time_s = _value(cells[0], where, "time")
        rate_bps = _value(cells[1], where, "rate")
        delay_s = _value(cells[2], where, "delay") if len(cells) == 3 else link.one_way_delay_s
        if not rows and time_s != 0:
            raise BadInputError(f"{where}: time: got {cells[0]!r} first, expected 0")
        if rows and time_s <= rows[-1][0]:
            raise BadInputError(
                f"{where}: time: got {cells[0]!r}, expected more than {rows[-1][0]:g} s of the line before"
            )
        rows.append((time_s, rate_bps, delay_s))
    if not rows:
        raise BadInputError(f"{path}: got no row, expected time, rate and delay")
    if rows[-1][1] == 0:
        raise BadInputError(f"{path}: the last rate is 0, expected more: nothing would ever arrive")
    times, rates, delays = zip(*rows, strict=True)
    return LinkTrace(times_s=times, rates_bps=rates, delays_s=delays)


def _value(text: str, where: str, what: str) -> float:
    """A plain SI number, or one with a unit of tc's."""
    try:
        value = float(text)
    except ValueError:
        return parse_rate_bps(text, f"{where}: rate") if what == "rate" else parse_duration_s(text, f"{where}: {what}")
    if not 0 <= value < math.inf:
        raise BadInputError(f"{where}: {what}: got {text!r}, expected a finite number of 0 or more")
    return value
