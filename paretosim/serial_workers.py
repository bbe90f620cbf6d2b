"""Serial workers: one thread that receives a batch, computes it and sends it (docs/model.md, "Serial workers").

The kernel sends and receives on its own, as far as its buffers reach, so a link is still a station. Bytes are a fluid.
Let a message be S bytes, the sender's buffer p·S and the receiver's q·S. What is on the link or unread never exceeds q
messages, what is written and not acknowledged never p. So byte y of message n (both counted in messages, at position
n + y) leaves no sooner than

* the worker has written it: all of it at once after computing, but for what the send buffer has no room for;
* the byte before it, of this message and of the one before;
* the byte at position n + y − q is read. The receiver reads message i from when it is free of i − 1, and that news
  takes the way back.

With q = k + f that is one gate before the first f of the message (message n − k − 1 is being read) and one before
the rest (message n − k is). The sender is held until position n + 1 − p has left, which with p = a + 1 − φ is share φ
of message n − a, and its acknowledgement is back, a round trip later. What only one gate's byte waits for is a
constant, so nothing has to be divided into packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.errors import BadInputError
from paretosim.recursion import Carry, Passage, Run, Serve

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# A program that found the send buffer full is woken when a third of it is free (`sk_stream_write_space` in Linux) and
# fills it again. So when it has written its last byte the buffer is somewhere between two thirds full and full.
WRITTEN_SHARE = 5 / 6

# Shares closer than this end at the same byte: the two come from different quotients, and a gate lies between them.
_SAME_SHARE = 1e-12

# When that share of message n has left that begins to flow then.
Flow = Callable[[int, "Array", "Array | float"], "Array"]


class Worker(msgspec.Struct, frozen=True):
    """A stage: when its computation of batch n ends that starts then."""

    compute: Serve


class Wire(msgspec.Struct, frozen=True):
    """A link between two workers, or between one and the orchestrator, which always reads.

    `stall` says when the first byte leaves of a message that could start then, `flow` when a share of it has left,
    `carry` is the delay (seconds or a function), `back_s` that of the way back. `acknowledged` says when the sender
    knows that what left at a time has arrived. `sent_share` and `read_share` are p and q: how many messages fit in the
    buffers of its two ends; infinite for an empty message. A sender of calls waits until its message has left and for
    `answer_s` more; at 0 it is not answered.
    """

    stall: Serve
    flow: Flow
    carry: Carry | Array | float
    back_s: Array | float
    acknowledged: Callable[[Array], Array]
    sent_share: Array | float
    read_share: Array | float
    answer_s: Array | float = 0.0


class _Past:
    """Times of earlier batches, as many as are looked back at: (depth, *shape)."""

    def __init__(self, depth: int, shape: tuple[int, ...]) -> None:
        self._times = np.full((depth, *shape), -np.inf)

    def put(self, n: int, time_s: Array) -> None:
        self._times[n % len(self._times)] = time_s

    def of(self, numbers: NDArray[np.int64]) -> Array:
        """Time of batch `numbers` (of the arrays' shape); −∞ for those before the first."""
        found = np.take_along_axis(self._times, (numbers % len(self._times))[np.newaxis], axis=0)[0]
        return np.where(numbers < 0, -np.inf, found)


class _Line:
    """What the recursion remembers of one wire: when it and the worker behind it were free, and its sender."""

    def __init__(self, wire: Wire, shape: tuple[int, ...], batches: int) -> None:
        sent = np.broadcast_to(np.asarray(wire.sent_share, dtype=np.float64), shape)
        read = np.broadcast_to(np.asarray(wire.read_share, dtype=np.float64), shape)
        if not ((sent >= 0).all() and (read >= 0).all()):
            raise BadInputError("buffers: got fewer than 0 bytes, expected 0 or more")
        self.wire = wire
        # Buffers that hold more messages than there are hold all of them.
        self.whole_read = np.floor(np.minimum(read, batches)).astype(np.int64)
        self.first_share = np.where(read < batches, read - self.whole_read, 0.0)
        self.whole_sent = np.floor(np.minimum(sent, batches)).astype(np.int64)
        self.held_share = np.where(sent < batches, self.whole_sent + 1 - sent, 1.0)
        self.answered = np.asarray(wire.answer_s) > 0
        self.idle_s: Array = np.full(shape, -np.inf)
        self.reader_free = _Past(min(batches, int(self.whole_read.max(initial=0)) + 2), shape)
        self.held_until = _Past(min(batches, int(self.whole_sent.max(initial=0)) + 1), shape)

    def send(self, n: int, written_s: Array) -> tuple[Array, Array, Array, Array]:
        """Start and end of message n on the wire, when its sender has done writing, and is free again."""
        wire = self.wire
        early = self.reader_free.of(n - 2 - self.whole_read) + wire.back_s
        late = self.reader_free.of(n - 1 - self.whole_read) + wire.back_s
        start = np.maximum(np.maximum(written_s, self.idle_s), early)
        flowing = wire.stall(n, start)
        rest = np.maximum(wire.flow(n, flowing, self.first_share), late)
        end = wire.flow(n, rest, 1 - self.first_share)
        before = wire.flow(n, flowing, np.minimum(self.held_share, self.first_share))
        behind = wire.flow(n, rest, np.maximum(self.held_share - self.first_share, 0.0))
        left = np.where(self.held_share <= self.first_share + _SAME_SHARE, before, behind)
        self.held_until.put(n, wire.acknowledged(left))
        self.idle_s = end
        released = np.maximum(written_s, self.held_until.of(n - self.whole_sent))
        released = np.where(self.answered, end, released)
        return start, end, released, released + wire.answer_s


def passages(
    stations: Sequence[Worker | Wire],
    arrivals_s: Array,
    shape: tuple[int, ...],
    *,
    control_delay_s: Array | float = 0.0,
    window: int | None = None,
) -> Iterator[Passage]:
    """Each batch's way through workers and wires in turn.

    Parameters
    ----------
    stations : in chain order, no two of a kind beside each other.
    arrivals_s : (…, batches) seconds, never falling.
    shape : that all times have; everything else broadcasts to it.
    """
    batches = arrivals_s.shape[-1]
    if any(isinstance(one, Wire) == isinstance(two, Wire) for one, two in pairwise(stations)):
        raise BadInputError("line: got two workers or two links in a row, expected them in turn")
    lines = {j: _Line(wire, shape, batches) for j, wire in enumerate(stations) if isinstance(wire, Wire)}
    free = {j: np.full(shape, -np.inf) for j in range(len(stations)) if j not in lines}
    returned: list[Array] = []
    for n in range(batches):
        dispatched: Array = np.broadcast_to(arrivals_s[..., n], shape)
        if window is not None and n >= window:
            dispatched = np.maximum(dispatched, returned[n % window])
        at: Array = dispatched + control_delay_s
        starts: list[Array] = []
        ends: list[Array] = []
        departures: list[Array] = []
        freed: list[Array] = []
        for j, station in enumerate(stations):
            if isinstance(station, Worker):
                start = np.maximum(at, free[j])
                at = end = free[j] = station.compute(n, start)
            else:
                start, end, released, answered = lines[j].send(n, at)
                if j:  # the worker before it; an input's sender does nothing else
                    departures[j - 1] = released
                    free[j - 1] = freed[j - 1] = answered
                at = station.carry(n, start, end) if callable(station.carry) else end + station.carry
            starts.append(start)
            ends.append(end)
            departures.append(end)
            freed.append(end)
        for j, time_s in free.items():
            if j:
                lines[j - 1].reader_free.put(n, time_s)
        if window is not None:
            returned[n % window : n % window + 1] = [at]
        yield Passage(dispatched, tuple(starts), tuple(ends), tuple(departures), tuple(freed), at)


def run(
    stations: Sequence[Worker | Wire],
    arrivals_s: Array,
    shape: tuple[int, ...],
    *,
    control_delay_s: Array | float = 0.0,
    window: int | None = None,
    started_at: int = 0,
) -> Run:
    """All batches: arrays (*shape, batches)."""
    times = np.empty((3, arrivals_s.shape[-1], *shape))
    line = passages(stations, arrivals_s, shape, control_delay_s=control_delay_s, window=window)
    for n, passage in enumerate(line):
        times[0, n], times[1, n], times[2, n] = passage.dispatched_s, passage.starts_s[started_at], passage.returned_s
    return Run(*np.moveaxis(times, 1, -1))


def shares_of(size_bytes: Array, send_buffer_bytes: float, receive_buffer_bytes: float) -> tuple[Array, Array]:
    """How many messages of that size the buffers of both ends hold, p and q, as programs find them; of any shape."""
    p, q = (
        np.divide(room, size_bytes, out=np.full(size_bytes.shape, np.inf), where=size_bytes > 0)
        for room in (np.float64(WRITTEN_SHARE * send_buffer_bytes), np.float64(receive_buffer_bytes))
    )
    return p, q


class WireTimes(msgspec.Struct, frozen=True):
    """A wire with fixed times: serialisation, stall before it, delays both ways (seconds), p and q, and the answer."""

    serialisation_s: Array
    stall_s: Array
    delay_s: Array
    back_s: Array
    sent_share: Array
    read_share: Array
    answer_s: Array | float = 0.0

    def as_wire(self) -> Wire:
        """The wire that takes these times."""
        return Wire(
            stall=lambda _, start: start + self.stall_s,
            flow=lambda _, start, share: start + np.asarray(share) * self.serialisation_s,
            carry=self.delay_s,
            back_s=self.back_s,
            acknowledged=lambda left: left + self.delay_s + self.back_s,
            sent_share=self.sent_share,
            read_share=self.read_share,
            answer_s=self.answer_s,
        )


def intervals_s(stations: Sequence[Array | WireTimes]) -> Array:
    """How often each station can take a batch; the largest is the interval of a line never short of batches.

    Every circuit of the recursion goes back once, so the largest of these is the largest of all: each wire's own
    occupation, and for each worker c + r + s over the batches that it spans, r and s being what receiving and sending
    hold it (docs/model.md, "Serial workers").

    Parameters
    ----------
    stations : in chain order, computing times (…) in seconds or wires.

    Returns
    -------
    (stations, …) seconds; a worker's includes its receiving and sending.
    """
    periods = []
    for j, station in enumerate(stations):
        if isinstance(station, WireTimes):
            periods.append(station.stall_s + station.serialisation_s)
            continue
        before = stations[j - 1] if j else None
        behind = stations[j + 1] if j + 1 < len(stations) else None
        receiving = [(np.zeros(1), np.ones(1))]
        if isinstance(before, WireTimes):
            whole, first_share = _parts(before.read_share)
            round_trip_s = before.delay_s + before.back_s
            receiving += [
                (round_trip_s + (1 - first_share) * before.serialisation_s, whole + 1),
                (round_trip_s + before.stall_s + before.serialisation_s, whole + 2),
            ]
        sending = [(np.zeros(1), np.zeros(1))]
        if isinstance(behind, WireTimes):
            whole, share = _parts(behind.sent_share)
            acknowledged_s = behind.delay_s + behind.back_s
            written_s = behind.stall_s + (1 - share) * behind.serialisation_s + acknowledged_s
            called_s = behind.stall_s + behind.serialisation_s + behind.answer_s
            answered = np.asarray(behind.answer_s) > 0
            sending.append((np.where(answered, called_s, written_s), np.where(answered, 0.0, whole)))
        candidates = [
            (station + held_s + sent_s) / (spanned + also)
            for held_s, spanned in receiving
            for sent_s, also in sending
        ]  # fmt: skip
        periods.append(np.max(np.broadcast_arrays(*candidates), axis=0))
    return np.stack(np.broadcast_arrays(*periods))


def _parts(share: Array) -> tuple[Array, Array]:
    """Whole part, infinite where the share is, and fraction."""
    whole = np.floor(share)
    return whole, np.subtract(share, whole, out=np.zeros(whole.shape), where=np.isfinite(whole))
