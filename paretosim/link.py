"""Links: one direction of a path between two hosts, and the rate and delay of its reverse."""

from __future__ import annotations

import math

import msgspec

from paretosim.errors import BadInputError
from paretosim.units import format_duration, format_rate, parse_duration_s, parse_rate_bps

# Bytes per segment beside its payload. On Ethernet: preamble 8, MAC 14, FCS 4, gap 12, IPv4 20, TCP with
# timestamps 32 = 90. Where a qdisc or relay sets the rate, only MAC, IP and TCP are counted: 66.
HEADER_BYTES_ETHERNET = 90
HEADER_BYTES_SHAPED = 66
# 1500 bytes of MTU less IPv4 (20) and TCP with timestamps (32).
MSS_BYTES = 1448
# Linux's default tcp_rmem maximum is 6 MiB, half of which is offered as window (tcp(7), tcp_adv_win_scale).
WMAX_BYTES = 3 * 2**20


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One direction of a path (`rate_bps`, `one_way_delay_s`) and its reverse (`return_…`)."""

    schema_version: int
    name: str
    rate_bps: float
    one_way_delay_s: float
    return_rate_bps: float
    return_delay_s: float
    header_bytes: int = HEADER_BYTES_SHAPED
    mss_bytes: int = MSS_BYTES
    wmax_bytes: int = WMAX_BYTES
    title: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.schema_version != 1:
            raise BadInputError(f"schema_version: got {self.schema_version}, expected 1")
        for field in ("rate_bps", "return_rate_bps", "mss_bytes", "wmax_bytes"):
            if not (math.isfinite(getattr(self, field)) and getattr(self, field) > 0):
                raise BadInputError(f"{field}: got {getattr(self, field)}, expected a finite number above zero")
        for field in ("one_way_delay_s", "return_delay_s", "header_bytes"):
            if not (math.isfinite(getattr(self, field)) and getattr(self, field) >= 0):
                raise BadInputError(f"{field}: got {getattr(self, field)}, expected a finite number of 0 or more")
        if not math.isfinite(self.rtt_s):
            raise BadInputError(
                f"round trip: {self.one_way_delay_s} s and {self.return_delay_s} s are too large to add"
            )

    @property
    def rtt_s(self) -> float:
        """Round trip of an empty segment."""
        return self.one_way_delay_s + self.return_delay_s

    def reverse(self) -> Link:
        """The same path seen from its other end."""
        return msgspec.structs.replace(
            self,
            rate_bps=self.return_rate_bps,
            one_way_delay_s=self.return_delay_s,
            return_rate_bps=self.rate_bps,
            return_delay_s=self.one_way_delay_s,
        )


def shaped(
    over: Link,
    *,
    rate_bps: float | None = None,
    one_way_delay_s: float | None = None,
    rtt_s: float | None = None,
) -> Link:
    """The link that `tc` on the upstream device's egress makes of `over`; what is None stays as it is.

    Parameters
    ----------
    rate_bps : set in both directions, as a slow network is slow both ways.
    one_way_delay_s : set forward only: an activation waits it once, and so does a round trip.
    rtt_s : spread evenly over both directions.

    Raises
    ------
    BadInputError : both a one-way delay and a round trip were given.
    """
    if one_way_delay_s is not None and rtt_s is not None:
        raise BadInputError("delay: got both a one-way delay and a round trip, expected one of them")
    changes: dict[str, float | int | str] = {}
    if rate_bps is not None:
        changes |= {"rate_bps": rate_bps, "return_rate_bps": rate_bps, "header_bytes": HEADER_BYTES_SHAPED}
    if one_way_delay_s is not None:
        changes |= {"one_way_delay_s": one_way_delay_s}
    if rtt_s is not None:
        changes |= {"one_way_delay_s": rtt_s / 2, "return_delay_s": rtt_s / 2}
    if not changes:
        return over
    link = msgspec.structs.replace(over, title="", source=f"given by the user over {over.name}", **changes)
    return msgspec.structs.replace(link, name=f"{format_rate(link.rate_bps)},{format_duration(link.one_way_delay_s)}")


def parse_link(text: str, over: Link) -> Link:
    """The link written as `RATE,DELAY`, such as `5mbit,200ms`, shaped over `over`.

    Raises
    ------
    BadInputError : not a rate and a delay.
    """
    rate, comma, delay = text.partition(",")
    if not comma:
        raise BadInputError(f"link: got {text!r}, expected a preset's name or RATE,DELAY such as 5mbit,200ms")
    return shaped(
        over, rate_bps=parse_rate_bps(rate, "link rate"), one_way_delay_s=parse_duration_s(delay, "link delay")
    )
