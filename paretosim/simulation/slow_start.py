"""A connection that remembers: slow start anew after idle (docs/model.md, "Traces and idle connections").

While nothing is sent, Linux halves the congestion window once for each retransmission timeout that passes, never
below ten segments (RFC 5681, 4.1, with RFC 6928's ten; `tcp_slow_start_after_idle`). The next message grows it again
by a segment for each one acknowledged, up to the receiver's window. What a message costs then depends on when it
is sent, so latency is not monotone in anything and only a simulation can say it.
"""

from __future__ import annotations

from paretosim.transfer_time import INITIAL_WINDOW_SEGMENTS

# Linux's TCP_RTO_MIN bounds the variance's share of the timeout, which is then added to the smoothed round trip.
RTO_MIN_S = 0.2


class RememberingConnection:
    """Congestion window of one direction of one connection, new at first.

    Parameters
    ----------
    mss_bytes, wmax_bytes : payload of a segment, and the receiver's window.
    """

    def __init__(self, *, mss_bytes: int, wmax_bytes: int) -> None:
        self._full_segments = wmax_bytes / mss_bytes
        self._window_segments = min(float(INITIAL_WINDOW_SEGMENTS), self._full_segments)
        self._quiet_since_s: float | None = None

    def stall_s(self, start_s: float, segments: float, segment_s: float, rtt_s: float) -> float:
        """Seconds that a message of that many segments stands still that starts then; each takes `segment_s`."""
        window = self._window_after_idle(start_s, rtt_s)
        self._window_segments = min(window + segments, self._full_segments)
        stall, sent = 0.0, 0.0
        while sent + window < segments:  # a further round follows
            stall += max(0.0, rtt_s - (window - 1) * segment_s)
            sent += window
            window = min(2 * window, self._full_segments)
        return stall

    def sent(self, end_s: float) -> None:
        """A message has left: idle begins."""
        self._quiet_since_s = end_s

    def _window_after_idle(self, start_s: float, rtt_s: float) -> float:
        if self._quiet_since_s is None:
            return self._window_segments
        halvings = int((start_s - self._quiet_since_s) // (rtt_s + RTO_MIN_S))
        least = min(float(INITIAL_WINDOW_SEGMENTS), self._window_segments)
        return max(least, self._window_segments * 2.0 ** -min(halvings, 60))
