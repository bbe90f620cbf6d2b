"""How long a message occupies a link, over a TCP connection that is warm or cold (docs/model.md, "Link").

A message of S bytes goes in n = ⌈S / mss⌉ segments, each with `header_bytes` beside its payload, so the wire
carries S + header_bytes·n bytes. The rate is the link's, but never above a full window a round trip.
The one-way delay comes once after that and is not part of the occupancy.

On a warm connection that is all. A cold one starts every message in slow start: ten segments in the first round
(RFC 6928), twice as many in each further round, until the receiver's window is full. As long as a round is sent
faster than its first acknowledgement returns, the sender stands still for the rest of the round trip. Nothing else
can use the connection then, so these stalls occupy the link too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from paretosim.link import Link

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import ArrayLike, NDArray

TcpState = Literal["warm", "cold"]

# RFC 6928; Linux's TCP_INIT_CWND.
INITIAL_WINDOW_SEGMENTS = 10


def wire_bytes(payload_bytes: ArrayLike, link: Link) -> NDArray[np.float64]:
    """Bytes on the wire for messages of `payload_bytes` (any shape): payload and segments' headers; same shape."""
    size = np.asarray(payload_bytes, dtype=np.float64)
    return np.asarray(size + link.header_bytes * segments(size, link.mss_bytes))


def serialisation_s(payload_bytes: ArrayLike, link: Link) -> NDArray[np.float64]:
    """Seconds that the bytes of messages of `payload_bytes` (any shape) take at the rate of `link`; same shape."""
    with np.errstate(over="ignore"):  # infinite on a link that is too slow for a number
        return np.asarray(wire_bytes(payload_bytes, link) * 8 / effective_rate_bps(link))


def stall_s(
    payload_bytes: ArrayLike, link: Link, tcp_state: TcpState, *, at_least_s: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """Seconds that the sender of messages of `payload_bytes` (any shape) stands still in slow start; same shape.

    Zero on a warm connection. Added to `serialisation_s`, it is how long the message occupies the link. Where the
    hosts take longer for the bytes than the link does, `at_least_s` is how long: rounds are then sent more slowly, and
    less is left to stand still.
    """
    size = np.asarray(payload_bytes, dtype=np.float64)
    if tcp_state == "warm":
        return np.zeros(size.shape)
    return cold_stall_s(
        segments(size, link.mss_bytes),
        np.maximum(serialisation_s(size, link), at_least_s),
        link.rtt_s,
        mss_bytes=link.mss_bytes,
        wmax_bytes=link.wmax_bytes,
    )


def cold_stall_s(
    segment_counts: ArrayLike, serialisation_s: ArrayLike, rtt_s: ArrayLike, *, mss_bytes: int, wmax_bytes: int
) -> NDArray[np.float64]:
    """Seconds of standing still in slow start: Σ_{i<k−1} max(0, RTT + τ − wᵢτ), with τ = x / n.

    Parameters
    ----------
    segment_counts, serialisation_s, rtt_s : n, x and RTT, broadcast against each other, such as
        messages (m,) by links (l, 1). A message of no segments does not stall.

    Returns
    -------
    Array of the broadcast shape.

    Source: docs/model.md, "Cold connections".
    """
    n, x, rtt = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (segment_counts, serialisation_s, rtt_s))
    )
    tau = np.divide(x, n, out=np.zeros(n.shape), where=n > 0)
    stall = np.zeros(n.shape)
    with np.errstate(over="ignore"):
        for window, rounds in zip(*slow_start_rounds(n, mss_bytes=mss_bytes, wmax_bytes=wmax_bytes), strict=True):
            stall += rounds * np.maximum(0.0, rtt - (window - 1) * tau)
    return stall


def slow_start_rounds(
    segment_counts: ArrayLike, *, mss_bytes: int, wmax_bytes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many rounds of each window size a message of n segments needs before its last one.

    Parameters
    ----------
    segment_counts : n, whole numbers in an array of any shape.

    Returns
    -------
    windows : (sizes,) segments, ascending: 10, 20, 40 … and the full window wmax / mss.
    rounds : (sizes, …) how many of the rounds 0 … k − 2 have that window; the last round waits for nothing.

    >>> windows, rounds = slow_start_rounds(100, mss_bytes=1000, wmax_bytes=30_000)  # 10 + 20 + 30 + 30 + 10
    >>> windows.tolist(), rounds.tolist()
    ([10.0, 20.0, 30.0], [1.0, 1.0, 2.0])
    """
    count = np.asarray(segment_counts, dtype=np.int64)
    windows: list[float] = []
    rounds = []
    sent, window = 0, INITIAL_WINDOW_SEGMENTS
    while window * mss_bytes < wmax_bytes:
        windows.append(window)
        sent += window
        rounds.append(count > sent)
        window *= 2
    windows.append(wmax_bytes / mss_bytes)
    # In bytes, so that a message of exactly so many windows needs exactly so many rounds.
    full = -((sent - count) * mss_bytes // wmax_bytes)
    rounds.append(np.maximum(0, full - 1))
    return np.array(windows), np.array(rounds, dtype=np.float64)


def segments(payload_bytes: ArrayLike, mss_bytes: int) -> NDArray[np.float64]:
    """Segments of messages of `payload_bytes`, whole numbers; same shape."""
    return np.asarray(np.ceil(np.asarray(payload_bytes, dtype=np.float64) / mss_bytes))


def effective_rate_bps(link: Link) -> float:
    """The link's rate, or a full window per round trip where that is less."""
    return min(link.rate_bps, 8 * link.wmax_bytes / link.rtt_s) if link.rtt_s > 0 else link.rate_bps
