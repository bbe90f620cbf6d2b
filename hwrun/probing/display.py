"""What a probe found, for people and as JSON; every statistic is computed here from the raw samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

import msgspec
from rich.table import Table

from hwrun.records import LinkMeasured, Scalar, clock_offset, echo_cost, resting_cost
from paretosim.console import stdout_console
from paretosim.units import format_bytes, format_duration, format_rate

_DIGITS = 4
# A rest for which a probe says how much later a message comes: a stage's time on a small board.
_SHOWN_REST_S = 0.1
# Width where stdout is no terminal.
_PLAIN_WIDTH = 100


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample that this share of all do not exceed (nearest rank).

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.95)
    4.0
    """
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def probe_document(near: str, far: str, link: str, measured: LinkMeasured) -> dict[str, object]:
    """A probe as `hwrun probe --json` prints it: raw samples, and what is computed from them."""
    cost = echo_cost(measured.echo)
    resting = resting_cost(measured.rested)
    offset = clock_offset(measured.clock)
    return {
        "near": near,
        "far": far,
        "link": link,
        "measured": msgspec.to_builtins(measured),
        "rtt_s": {
            "min": min(measured.rtt_samples_s),
            "median": statistics.median(measured.rtt_samples_s),
            "p95": quantile(measured.rtt_samples_s, 0.95),
            "max": max(measured.rtt_samples_s),
        },
        "per_message_s": None if cost is None else cost.per_message_s,
        "per_byte_s": None if cost is None else cost.per_byte_s,
        "echo_spread": None if cost is None else cost.spread,
        "resting_later_s": None if resting is None else resting.later_s,
        "resting_half_s": None if resting is None else resting.half_s,
        "clock_offset_s": offset.offset_s,
        "clock_offset_error_s": offset.error_s,
    }


def show_probe(near: str, far: str, link: str, measured: LinkMeasured) -> None:
    """A table of the probe on stdout, narrow enough for 80 columns."""
    console = stdout_console(_PLAIN_WIDTH)
    table = Table(title=f"{near} → {far}, {link} ({measured.medium})", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for what, value in _rows(measured):
        table.add_row(what, value)
    console.print(table)
    sizes = Table(title="round trip of a message of", title_justify="left")
    for heading in ("size", "median", "min", "max", "n"):
        sizes.add_column(heading, justify="right")
    for sample in measured.echo:
        times = sample.round_trips_s
        shown = (statistics.median(times), min(times), max(times))
        sizes.add_row(_size(sample.size_bytes), *(_time(value) for value in shown), str(len(times)))
    if measured.echo:
        console.print(sizes)


def _rows(measured: LinkMeasured) -> Iterator[tuple[str, str]]:
    rtt = measured.rtt_samples_s
    yield (
        "round trip",
        f"median {_time(statistics.median(rtt))}, min {_time(min(rtt))}, p95 {_time(quantile(rtt, 0.95))},"
        f" max {_time(max(rtt))} (n = {len(rtt)})",
    )
    goodput = measured.goodput_bps
    yield (
        "goodput",
        "too short a transfer to tell"
        if goodput is None
        else f"{_rate(goodput)} over the second half of {format_bytes(measured.probe_bytes)}",
    )
    cost = echo_cost(measured.echo)
    if cost is not None:
        rate = f" ({_rate(8 / cost.per_byte_s)})" if cost.per_byte_s > 0 else ""
        yield "a message costs", f"{_time(cost.per_message_s)} there and an empty one back"
        yield "a byte costs", f"{cost.per_byte_s * 1e9:.4g} ns{rate}"
        yield "spread of both", f"{cost.spread:.1%} (scaled median deviation of the round trips below)"
    resting = resting_cost(measured.rested)
    if resting is not None:
        yield (
            "after a rest",
            f"of {_time(_SHOWN_REST_S)} a message comes {_short_time(resting.after_s(_SHOWN_REST_S))} later"
            f" ({_short_time(resting.later_s)} at most, half of it after {_short_time(resting.half_s)})",
        )
    elif measured.rested:
        yield "after a rest", "a message comes no later than without one"
    if measured.echo_left_out_bytes:
        yield "sizes left out", f"{', '.join(map(_size, measured.echo_left_out_bytes))}: no time left for them"
    offset = clock_offset(measured.clock)
    yield "far clock", f"{offset.offset_s:+.6f} s to this end's, ± {_time(offset.error_s)}"
    yield "TCP, near end", _tcp(measured.near_tcp)
    yield "TCP, far end", _tcp(measured.far_tcp)


def _tcp(info: dict[str, Scalar]) -> str:
    if not info:
        return "no TCP socket"
    return (
        f"{info['congestion_control']}, window {info['cwnd']} segments of {info['snd_mss_bytes']} B,"
        f" {info['retransmits']} sent again, RTT {_time(_number(info['rtt_s']))},"
        f" send buffer {format_bytes(_number(info['send_buffer_bytes']))},"
        f" receive buffer {format_bytes(_number(info['receive_buffer_bytes']))}"
    )


def _number(value: Scalar) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _time(duration_s: float) -> str:
    return format_duration(duration_s, digits=_DIGITS, gap=" ")


def _short_time(duration_s: float) -> str:
    """Of a fit through a few medians: no more digits than it is good for."""
    return format_duration(duration_s, digits=2, gap=" ")


def _rate(rate_bps: float) -> str:
    return format_rate(float(f"{rate_bps:.{_DIGITS}g}"))


def _size(size_bytes: int) -> str:
    """The size in the powers of two that the sweep of sizes goes by.

    >>> _size(256), _size(4096), _size(67108864)
    ('256 B', '4 KiB', '64 MiB')
    """
    for unit, scale in (("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:g} {unit}"
    return f"{size_bytes} B"
