"""One direction of an emulated link: when each frame leaves, and which are dropped. Pure: time is an argument.

A link of rate r sends frames one after another, each occupying it for 8·bytes/r, after a delay d that is drawn for
each frame, uniform over delay ± jitter: `release = max(now + d, last release) + 8·bytes/r`. That is netem's `delay`
and `rate` together (tc-netem(8); sch_netem.c, netem_enqueue), so with a rate set no frame overtakes another: one whose
draw is long holds up those behind it. A share of the frames is lost before it reaches the queue, each by itself, as by
netem's `loss random`; a seed says which. Before the link stands a queue of limited bytes; a frame that finds no room is
dropped. netem's own limit also counts frames that have left the link and are merely on their way, which drops frames on
a long fast path that no router would drop; here the limit is of the queue alone.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwrun.errors import BadUsageError

if TYPE_CHECKING:
    from paretosim.link import Link

# More than TCP lets one connection have under way: Linux's largest receive buffer (tcp_rmem, 6 MiB) in full frames of
# 1514 bytes for 1448 of payload. A shallower queue overflows under any saturated window, since TCP fills what there is;
# the drops then measure the queue, and not the link that a plan asks for.
DEFAULT_LIMIT_BYTES = -(-6 * 2**20 // 1448) * 1514
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
    jitter_s : a frame's delay is uniform over `delay_s` ± this. Needs a rate, which keeps frames in order.
    loss : share of frames that is lost, each by itself.
    seed : of the delays and losses drawn.
    """

    rate_bps: float | None = None
    delay_s: float = 0.0
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    jitter_s: float = 0.0
    loss: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rate_bps is not None and not (math.isfinite(self.rate_bps) and self.rate_bps > 0):
            raise BadUsageError(f"rate_bps: got {self.rate_bps}, expected a finite number above zero, or None")
        if not (math.isfinite(self.delay_s) and self.delay_s >= 0):
            raise BadUsageError(f"delay_s: got {self.delay_s}, expected a finite number of 0 or more")
        if self.limit_bytes < 1514:
            raise BadUsageError(f"limit_bytes: got {self.limit_bytes}, expected room for one frame, 1514 or more")
        if not 0 <= self.jitter_s <= self.delay_s:
            raise BadUsageError(f"jitter_s: got {self.jitter_s}, expected 0 up to the delay, {self.delay_s}")
        if self.jitter_s and self.rate_bps is None:
            raise BadUsageError("jitter_s: got it without rate_bps, expected a rate: without one frames would overtake")
        if not 0 <= self.loss < 1:
            raise BadUsageError(f"loss: got {self.loss}, expected a share from 0 to below 1")


def shapes_of(link: Link, seed: int = 0) -> tuple[Shape, Shape]:
    """Forward and backward shape of a link; each direction draws from a seed of its own."""
    limit_bytes = DEFAULT_LIMIT_BYTES if link.limit_bytes is None else link.limit_bytes
    return (
        Shape(link.rate_bps, link.one_way_delay_s, limit_bytes, link.jitter_s, link.loss, 2 * seed),
        Shape(
            link.return_rate_bps, link.return_delay_s, limit_bytes, link.return_jitter_s, link.return_loss, 2 * seed + 1
        ),
    )


@dataclass
class Counters:
    """What one direction did since it was last reset. Frames and bytes are those released, headers counted.

    `drops` found the queue full, `lost` were lost as the shape asks.
    """

    frames: int = 0
    bytes: int = 0
    drops: int = 0
    lost: int = 0
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
        self._last_release_s = -math.inf
        self._draw = random.Random(shape.seed).random

    def __len__(self) -> int:
        return len(self._frames)

    def offer(self, frame: bytes, now_s: float) -> bool:
        """Take in a frame that arrives now; False when it is lost, or there was no room and it is dropped.

        Times must not fall from call to call.
        """
        shape, s_per_byte = self.shape, self._s_per_byte
        if shape.loss and self._draw() < shape.loss:
            self.counters.lost += 1
            return False
        release_s = now_s + shape.delay_s
        if shape.jitter_s:
            release_s += (2 * self._draw() - 1) * shape.jitter_s
        if s_per_byte:
            queued_bytes = float(len(frame))
            if self._last_release_s > release_s:
                # The link is never idle while frames wait, so the time it still needs is the bytes still waiting.
                queued_bytes += (self._last_release_s - release_s) / s_per_byte
                release_s = self._last_release_s
            if queued_bytes > shape.limit_bytes + _ROUNDING_BYTES:
                self.counters.drops += 1
                return False
            if queued_bytes > self.counters.max_queued_bytes:
                self.counters.max_queued_bytes = queued_bytes
            release_s += len(frame) * s_per_byte
            self._last_release_s = release_s
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
