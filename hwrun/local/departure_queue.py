"""One direction of an emulated link: when each frame leaves, and which are dropped. Pure: time is an argument.

A link of rate r and delay d sends frames one after another, each occupying it for 8·bytes/r, and every frame arrives
d after it was sent: `departure = max(now, last departure) + 8·bytes/r`, `release = departure + d`. That is what
netem's `rate` and `delay` do (tc-netem(8)). Before the link stands a queue of limited bytes; a frame that finds no
room is dropped. netem's own limit also counts frames that have left the link and are merely on their way, which drops
frames on a long fast path that no router would drop; here the limit is of the queue alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwrun.errors import BadUsageError

if TYPE_CHECKING:
    from paretosim.link import Link

# netem's default limit of 1000 packets, each a full Ethernet frame of 1500 + 14 bytes.
DEFAULT_LIMIT_BYTES = 1000 * 1514
# Backlogs come from differences of clock readings; half a byte is far above their rounding and below any frame.
_ROUNDING_BYTES = 0.5


@dataclass(frozen=True)
class Shape:
    """What one direction of a link does to frames.

    Parameters
    ----------
    rate_bps : bits per second, Ethernet headers (14 bytes) counted; None for no limit.
    delay_s : seconds from having been sent to arriving.
    limit_bytes : bytes that may wait for the rate; a frame beyond is dropped.
    """

    rate_bps: float | None = None
    delay_s: float = 0.0
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    def __post_init__(self) -> None:
        if self.rate_bps is not None and not (math.isfinite(self.rate_bps) and self.rate_bps > 0):
            raise BadUsageError(f"rate_bps: got {self.rate_bps}, expected a finite number above zero, or None")
        if not (math.isfinite(self.delay_s) and self.delay_s >= 0):
            raise BadUsageError(f"delay_s: got {self.delay_s}, expected a finite number of 0 or more")
        if self.limit_bytes < 1514:
            raise BadUsageError(f"limit_bytes: got {self.limit_bytes}, expected room for one frame, 1514 or more")


def shapes_of(link: Link, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> tuple[Shape, Shape]:
    """Forward and backward shape of a link."""
    return (
        Shape(link.rate_bps, link.one_way_delay_s, limit_bytes),
        Shape(link.return_rate_bps, link.return_delay_s, limit_bytes),
    )


@dataclass
class Counters:
    """What one direction did since it was last reset. Frames and bytes are those released, headers counted."""

    frames: int = 0
    bytes: int = 0
    drops: int = 0
    flushed: int = 0
    max_queued_bytes: float = 0.0
    max_lateness_s: float = 0.0


class DepartureQueue:
    """Frames of one direction between their arrival and their release."""

    def __init__(self, shape: Shape) -> None:
        self.counters = Counters()
        self.next_release_s = math.inf
        self._frames: deque[tuple[float, bytes]] = deque()
        self._use(shape)

    def _use(self, shape: Shape) -> None:
        self.shape = shape
        self._s_per_byte = 0.0 if shape.rate_bps is None else 8.0 / shape.rate_bps
        self._last_departure_s = -math.inf

    def __len__(self) -> int:
        return len(self._frames)

    def offer(self, frame: bytes, now_s: float) -> bool:
        """Take in a frame that arrives now; False when there was no room and it is dropped.

        Times must not fall from call to call.
        """
        s_per_byte, departure_s = self._s_per_byte, now_s
        if s_per_byte:
            queued_bytes = float(len(frame))
            if self._last_departure_s > now_s:
                # The link is never idle while frames wait, so the time it still needs is the bytes still waiting.
                departure_s = self._last_departure_s
                queued_bytes += (departure_s - now_s) / s_per_byte
            if queued_bytes > self.shape.limit_bytes + _ROUNDING_BYTES:
                self.counters.drops += 1
                return False
            if queued_bytes > self.counters.max_queued_bytes:
                self.counters.max_queued_bytes = queued_bytes
            departure_s += len(frame) * s_per_byte
            self._last_departure_s = departure_s
        release_s = departure_s + self.shape.delay_s
        if not self._frames:
            self.next_release_s = release_s
        self._frames.append((release_s, frame))
        return True

    def release(self, now_s: float) -> bytes | None:
        """The next frame whose time has come, and count it; None when there is none yet."""
        if self.next_release_s > now_s:
            return None
        release_s, frame = self._frames.popleft()
        self.next_release_s = self._frames[0][0] if self._frames else math.inf
        counters = self.counters
        counters.frames += 1
        counters.bytes += len(frame)
        if now_s - release_s > counters.max_lateness_s:
            counters.max_lateness_s = now_s - release_s
        return frame

    def reshape(self, shape: Shape) -> None:
        """Change the link. Frames inside are dropped and counted as flushed; the same shape again changes nothing."""
        if shape == self.shape:
            return
        self.counters.flushed += len(self._frames)
        self._frames.clear()
        self.next_release_s = math.inf
        self._use(shape)
