"""Whether a link, as a probe found it, is the one that was asked for. Pure.

The relay keeps a rate of up to 200 Mbit/s within 0.9 % and adds 0.2 to 1 ms to a round trip, up to 2.8 ms beside other
load; a real netem was within 1 %. So whatever misses by 5 % was not shaped as asked: a queue that another program
replaced, a relay that has no core, a slower network underneath.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from hwrun.errors import HwrunError
from hwrun.records import LinkMeasured
from paretosim.link import Link
from paretosim.units import format_duration, format_percent, format_rate

DEFAULT_TOLERANCE = 0.05
# What waking two processes and a local network add to a round trip, beside what the link does.
_WAKING_S = 3e-3
# A transfer tells the rate once slow start is over; of one of this many bandwidth-delay products, it is for the second
# half, which is what goodput is of.
_TELLING_PRODUCTS = 8
_TELLING_TIME_S = 20 * _WAKING_S
# The frames of an empty message and of its answer at most, headers counted: they take the link's rate as well.
_PING_BYTES = 150


class LinkMissedError(HwrunError):
    """The link that was measured is not the one that was asked for."""


def missed(asked: Link, measured: LinkMeasured, tolerance: float = DEFAULT_TOLERANCE) -> str | None:
    """In what a probe misses the link, with both numbers; None where it holds.

    Goodput is held against what headers leave of the rate. It may be less where TCP and not the link decides: where a
    full window is less than the bandwidth-delay product, and where the probe's transfer was too short for the window
    to open. Where segments may be lost (with loss, or a queue of a limit) goodput tells little, and only the fastest
    message is held against the rate: no message may be faster. Jitter may shift a round trip by its own size.

    Parameters
    ----------
    tolerance : relative, of the rate and of the round trip; a round trip has 3 ms beside it, and its frames' own time.
    """
    found = [_rate_missed(asked, measured, tolerance), _round_trip_missed(asked, measured, tolerance)]
    return "; ".join(problem for problem in found if problem) or None


def _rate_missed(asked: Link, measured: LinkMeasured, tolerance: float) -> str | None:
    if measured.goodput_bps is None:
        return "the probe could not tell the rate"
    expected_bps = asked.rate_bps * asked.mss_bytes / (asked.mss_bytes + asked.header_bytes)
    found_bps: float | None = measured.goodput_bps
    loses = may_lose(asked)
    if loses:
        # What is lost is sent again and TCP slows down, so goodput says how TCP fared, and not what the link's rate is.
        found_bps = _fastest_bps(asked, measured)
    if found_bps is None:
        return None
    product_bytes = asked.rate_bps * asked.rtt_s / 8
    fills = product_bytes <= asked.wmax_bytes and measured.probe_bytes >= _TELLING_PRODUCTS * product_bytes
    deviation = found_bps / expected_bps - 1
    if deviation > tolerance or (deviation < -tolerance and fills and not loses):
        return (
            f"goodput is {format_rate(round(found_bps))}, {deviation:+.1%} of the"
            f" {format_rate(round(expected_bps))} that a rate of {format_rate(asked.rate_bps)} leaves"
        )
    return None


def most_held(asked: Link, probes: Sequence[LinkMeasured]) -> str:
    """What rate the best of several probes held, in a sentence; empty where one held the rate that was asked for."""
    goodputs_bps = [probe.goodput_bps for probe in probes if probe.goodput_bps is not None]
    if may_lose(asked) or not goodputs_bps:
        return ""
    held_bps = max(goodputs_bps) * (asked.mss_bytes + asked.header_bytes) / asked.mss_bytes
    if held_bps >= asked.rate_bps:
        return ""
    # Rounded down to two digits: what is named here should be held when it is asked for.
    step_bps = 10 ** (math.floor(math.log10(held_bps)) - 1)
    return f"; the best of {len(probes)} probes held a rate of {format_rate(held_bps // step_bps * step_bps)}"


def may_lose(asked: Link) -> bool:
    """Whether segments may be lost over the link, at random or where its queue ends."""
    return max(asked.loss, asked.return_loss) > 0 or asked.limit_bytes is not None


def _fastest_bps(asked: Link, measured: LinkMeasured) -> float | None:
    """The most that any message of the probe's sweep of sizes went at, its round trip taken off; None without one.

    Whatever TCP does takes time, so this is never above the link's rate. Messages that last less than a few times what
    waking takes tell nothing.
    """
    if not measured.rtt_samples_s:
        return None
    empty_s = min(measured.rtt_samples_s)
    telling = [echo for echo in measured.echo if echo.size_bytes * 8 / asked.rate_bps > _TELLING_TIME_S]
    rates = (echo.size_bytes * 8 / max(min(echo.round_trips_s) - empty_s, 1e-9) for echo in telling)
    return max(rates, default=None)


def _round_trip_missed(asked: Link, measured: LinkMeasured, tolerance: float) -> str | None:
    if not measured.rtt_samples_s:
        return "the probe has no round trip"
    rtt_s = statistics.median(measured.rtt_samples_s)
    jitter_s = asked.jitter_s + asked.return_jitter_s
    frames_s = _PING_BYTES * 8 * (1 / asked.rate_bps + 1 / asked.return_rate_bps)
    least_s = asked.rtt_s * (1 - tolerance) - jitter_s
    most_s = asked.rtt_s * (1 + tolerance) + jitter_s + _WAKING_S + frames_s
    if least_s <= rtt_s <= most_s:
        return None
    return (
        f"round trips take {format_duration(rtt_s, digits=4)} (median of {len(measured.rtt_samples_s)}), and"
        f" {format_duration(asked.rtt_s, digits=4)} was asked for ({format_duration(max(0.0, least_s), digits=4)} to"
        f" {format_duration(most_s, digits=4)} would do)"
    )


def remedy(tolerance: float) -> str:
    """What to do about a link that misses."""
    return (
        "see that nothing else uses the link or the relay's core (hwrun doctor), and resume; or ask for a slower link;"
        f" or allow more than --link-tolerance {format_percent(tolerance)}"
    )
