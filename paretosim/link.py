"""Links: one direction of a path between two hosts, and the rate and delay of its reverse.

Jitter, loss and the queue's limit are what a testbed can be asked for. Predictions know none of the first two
(`check_predictable`): a lost segment costs TCP far more than its own time, and the model has no term for it.
"""

from __future__ import annotations

import math

import msgspec

from paretosim.errors import BadInputError
from paretosim.units import (
    format_duration,
    format_percent,
    format_rate,
    format_size,
    parse_duration_s,
    parse_fraction,
    parse_rate_bps,
    parse_size_bytes,
)

# Bytes per segment beside its payload. On Ethernet: preamble 8, MAC 14, FCS 4, gap 12, IPv4 20, TCP with
# timestamps 32 = 90. Where a qdisc or relay sets the rate, only MAC, IP and TCP are counted: 66.
HEADER_BYTES_ETHERNET = 90
HEADER_BYTES_SHAPED = 66
# 1500 bytes of MTU less IPv4 (20) and TCP with timestamps (32).
MSS_BYTES = 1448
# Linux's default tcp_rmem maximum is 6 MiB, half of which is offered as window (tcp(7), tcp_adv_win_scale).
WMAX_BYTES = 3 * 2**20
# The smallest queue that holds anything: one full Ethernet frame without its FCS.
FULL_FRAME_BYTES = 1514


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One direction of a path (`rate_bps`, `one_way_delay_s`) and its reverse (`return_…`).

    A frame's delay is uniform over `one_way_delay_s` ± `jitter_s`, and of all frames the share `loss` is lost, each
    by itself, as netem does it. `limit_bytes` may wait for the rate, each way; None for more than a window of TCP.
    """

    schema_version: int
    name: str
    rate_bps: float
    one_way_delay_s: float
    return_rate_bps: float
    return_delay_s: float
    header_bytes: int = HEADER_BYTES_SHAPED
    mss_bytes: int = MSS_BYTES
    wmax_bytes: int = WMAX_BYTES
    jitter_s: float = 0.0
    loss: float = 0.0
    return_jitter_s: float = 0.0
    return_loss: float = 0.0
    limit_bytes: int | None = None
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
        for field, delay_s in (("jitter_s", self.one_way_delay_s), ("return_jitter_s", self.return_delay_s)):
            if not 0 <= getattr(self, field) <= delay_s:
                raise BadInputError(
                    f"{field}: got {getattr(self, field)}, expected 0 up to the delay of that direction, {delay_s}:"
                    " a frame cannot arrive before it was sent"
                )
        for field in ("loss", "return_loss"):
            if not 0 <= getattr(self, field) < 1:
                raise BadInputError(f"{field}: got {getattr(self, field)}, expected a share from 0 to below 1")
        if self.limit_bytes is not None and self.limit_bytes < FULL_FRAME_BYTES:
            raise BadInputError(
                f"limit_bytes: got {self.limit_bytes}, expected room for one frame, {FULL_FRAME_BYTES} or more"
            )
        if not math.isfinite(self.rtt_s):
            raise BadInputError(
                f"round trip: {self.one_way_delay_s} s and {self.return_delay_s} s are too large to add"
            )

    @property
    def rtt_s(self) -> float:
        """Round trip of an empty segment."""
        return self.one_way_delay_s + self.return_delay_s

    def check_predictable(self) -> None:
        """Raise BadInputError for a link with jitter or loss, which predictions would have to ignore."""
        if self.is_random:
            jitter_s, loss = max(self.jitter_s, self.return_jitter_s), max(self.loss, self.return_loss)
            raise BadInputError(
                f"link {self.name}: has jitter {format_duration(jitter_s)} and loss {format_percent(loss)}, which no"
                " prediction knows; expected 0 of both. To measure it: hwrun sweep --link"
            )

    @property
    def is_random(self) -> bool:
        """Whether frames of either direction are delayed or lost by chance."""
        return max(self.jitter_s, self.return_jitter_s, self.loss, self.return_loss) > 0

    def reverse(self) -> Link:
        """The same path seen from its other end."""
        return msgspec.structs.replace(
            self,
            rate_bps=self.return_rate_bps,
            one_way_delay_s=self.return_delay_s,
            return_rate_bps=self.rate_bps,
            return_delay_s=self.one_way_delay_s,
            jitter_s=self.return_jitter_s,
            loss=self.return_loss,
            return_jitter_s=self.jitter_s,
            return_loss=self.loss,
        )


def shaped(
    over: Link,
    *,
    rate_bps: float | None = None,
    one_way_delay_s: float | None = None,
    rtt_s: float | None = None,
    jitter_s: float | None = None,
    loss: float | None = None,
    limit_bytes: int | None = None,
) -> Link:
    """The link that `tc` on the upstream device's egress makes of `over`; what is None stays as it is.

    Parameters
    ----------
    rate_bps : set in both directions, as a slow network is slow both ways.
    one_way_delay_s : set forward only: an activation waits it once, and so does a round trip.
    rtt_s : spread evenly over both directions.
    jitter_s, loss : set forward only, beside the delay.
    limit_bytes : of the queue before the rate, in both directions.

    Raises
    ------
    BadInputError : both a one-way delay and a round trip were given.
    """
    if one_way_delay_s is not None and rtt_s is not None:
        raise BadInputError("delay: got both a one-way delay and a round trip, expected one of them")
    given = {"jitter_s": jitter_s, "loss": loss, "limit_bytes": limit_bytes}
    changes: dict[str, float | int | str] = {field: value for field, value in given.items() if value is not None}
    if rate_bps is not None:
        changes |= {"rate_bps": rate_bps, "return_rate_bps": rate_bps, "header_bytes": HEADER_BYTES_SHAPED}
    if one_way_delay_s is not None:
        changes |= {"one_way_delay_s": one_way_delay_s}
    if rtt_s is not None:
        changes |= {"one_way_delay_s": rtt_s / 2, "return_delay_s": rtt_s / 2}
    if not changes:
        return over
    link = msgspec.structs.replace(over, title="", source=f"given by the user over {over.name}", **changes)
    return msgspec.structs.replace(link, name=_spelled(link))


def _spelled(link: Link) -> str:
    """RATE,DELAY and what else its forward direction has, as `parse_link` reads it."""
    words = [format_rate(link.rate_bps), format_duration(link.one_way_delay_s)]
    if link.jitter_s:
        words.append(f"jitter={format_duration(link.jitter_s)}")
    if link.loss:
        words.append(f"loss={format_percent(link.loss)}")
    if link.limit_bytes is not None:
        words.append(f"limit={format_size(link.limit_bytes)}")
    return ",".join(words)


def parse_link(text: str, over: Link) -> Link:
    """The link written as `RATE,DELAY[,jitter=TIME][,loss=SHARE%][,limit=SIZE]`, shaped over `over`.

    Raises
    ------
    BadInputError : anything else.
    """
    rate, comma, rest = text.partition(",")
    if not comma:
        raise BadInputError(f"link: got {text!r}, expected a preset's name or RATE,DELAY such as 5mbit,200ms")
    delay, *more = rest.split(",")
    words: dict[str, str] = {}
    for word in more:
        key, equals, value = word.partition("=")
        if not equals or key not in ("jitter", "loss", "limit") or key in words:
            raise BadInputError(
                f"link: got {word!r} in {text!r}, expected RATE,DELAY and then jitter=TIME, loss=SHARE% or limit=SIZE,"
                " each once at most, such as 20mbit,20ms,jitter=2ms,loss=0.1%"
            )
        words[key] = value
    return shaped(
        over,
        rate_bps=parse_rate_bps(rate, "link rate"),
        one_way_delay_s=parse_duration_s(delay, "link delay"),
        jitter_s=parse_duration_s(words["jitter"], "link jitter") if "jitter" in words else None,
        loss=parse_fraction(words["loss"], "link loss") if "loss" in words else None,
        limit_bytes=parse_size_bytes(words["limit"], "link limit") if "limit" in words else None,
    )
