"""Probing a data path: round trips of empty messages, goodput, and round trips of messages of rising size.

A probe uses a connection of its own, so that the pipeline's sockets keep the state they are in. The receiver
measures goodput of the second half of the bytes, when slow start is over, on its own clock. Then messages of
64 B to 64 MiB go over the connection, which is warm by now, each answered by an empty one when it is whole: what a
message and a byte cost. Those go back to back. A pipeline's go when its stages have computed: both hosts have rested,
and wake later for it, so that at last some messages are sent after pauses of growing length. Every answer carries the
two times of the far clock, so that round trips of empty messages are clock exchanges as well.
"""

from __future__ import annotations

import math
import random
import statistics
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from hwrun.errors import ProtocolError
from hwrun.records import ClockExchange, EchoSample, LinkMeasured, Medium, RestedSample
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import (
    BulkEnd,
    BulkMeasured,
    Done,
    ProbeEnded,
    decode_control,
    receive_control,
    send_control,
)
from hwrun.wire.frames import Kind
from hwrun.wire.tcp_info import tcp_info

# Probe messages carry at most one piece of this size.
BULK_PIECE_BYTES = 64 * 2**10
# Half of the transfer has to outlast slow start, and all of it should take no longer than this on a slow link.
_BULK_S = 2.0
_LONGEST_BULK_S = 10.0
_WANTED_BULK_BYTES = 256 * 2**10
_MIN_BULK_BYTES = 16 * 2**10
_MAX_BULK_BYTES = 32 * 2**20
# A transfer within a host takes 20 ms, in which another process may have the core: 4.6 to 17.8 Gbit/s were seen in
# turn.
_MOST_BULKS, _LONG_BULK_S = 7, 0.2
# A path over which nothing moves for this long is dead: neither end of a probe waits longer.
SILENCE_LIMIT_S = 30.0
MIN_PINGS = 5
# Round trips of empty messages in a sweep's probes.
PINGS = 7
# Four-fold steps: 64 B to 64 MiB, which is more than half of the largest activation of the catalogue at batch 8.
_ECHO_STEP = 4
ECHO_SIZES_BYTES = tuple(64 * _ECHO_STEP**power for power in range(11))
_ECHO_REPEATS = 9
_FEWEST_ECHO_REPEATS = 2
# How long a sweep of sizes may take within a run's probes, and the longest that an orchestrator may ask for.
ECHO_S = 4.0
MAX_ECHO_S = 120.0
# Of messages after a pause: one that is all waking, and one whose bytes are copied by cores that have rested.
_RESTED_SIZES_BYTES = (64, 2**20)
# As long as stages take; beyond the last one it grew little where that was looked for.
_PAUSES_S = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_RESTED_ROUNDS = 5
# A message that is longer under way than this waits for its link, beside which what a rest costs is nothing.
_LONGEST_RESTED_S = 0.05
# How long messages after a pause may take: five rounds on a path that is quick beside the pauses, which are 3.9 s.
RESTED_S = 5.0
_CLOCK = struct.Struct(">dd")  # when the message was whole and when its answer left, of the answering clock


class _HasRate(Protocol):
    @property
    def rate_bps(self) -> float: ...


def bulk_bytes(link: _HasRate | None) -> int:
    """Bytes that a probe of that link sends: two seconds' worth, up to ten on a slow link; None is unshaped."""
    if link is None:
        return _MAX_BULK_BYTES
    bytes_per_s = link.rate_bps / 8
    wanted = max(bytes_per_s * _BULK_S, min(bytes_per_s * _LONGEST_BULK_S, _WANTED_BULK_BYTES))
    return max(_MIN_BULK_BYTES, min(_MAX_BULK_BYTES, int(wanted)))


def run_probe(
    connection: Connection, *, medium: Medium, pings: int, bulk_bytes: int, echo_s: float, rested_s: float
) -> LinkMeasured:
    """Probe from the dialling end.

    Parameters
    ----------
    pings : round trips of empty messages to time, after one that is not counted.
    bulk_bytes : of a transfer that goodput is measured by; fewer where the path would take too long for them.
    echo_s : how long the sweep of sizes may take, about; 0 leaves it out.
    rested_s : how long messages after a pause may take; they are made in whole rounds, and none beside no sweep.
    """
    connection.socket.settimeout(SILENCE_LIMIT_S)
    pool = BufferPool()
    exchanges = [_exchange(connection, pool, number) for number in range(max(MIN_PINGS, pings) + 1)][1:]
    quickest_s = min(exchange.round_trip_s for exchange in exchanges)
    bearable_bytes = _bearable_bytes(connection, pool, len(exchanges) + 1, quickest_s)
    sent_bytes, goodput_bps = _typical_bulk(connection, pool, min(bulk_bytes, bearable_bytes))
    echo, left_out = _echo_sweep(connection, pool, echo_s)
    rested = _rested(connection, pool, echo, rested_s)
    near_tcp = tcp_info(connection.socket)
    send_control(connection, Done())
    ended = receive_control(connection, pool, ProbeEnded)
    return LinkMeasured(
        medium=medium,
        rtt_samples_s=tuple(exchange.round_trip_s for exchange in exchanges),
        goodput_bps=goodput_bps,
        probe_bytes=sent_bytes,
        echo=echo,
        echo_left_out_bytes=left_out,
        rested=rested,
        clock=tuple(exchanges),
        near_tcp=near_tcp,
        far_tcp=ended.tcp_info,
    )


def _exchange(
    connection: Connection, pool: BufferPool, number: int, payload: memoryview | bytes = b""
) -> ClockExchange:
    start_s = time.monotonic()
    connection.send(Kind.PING, number, payload=(payload,))
    echo = connection.receive(pool, _CLOCK.size)
    end_s = time.monotonic()
    header = echo.header
    if header.kind is not Kind.ECHO or header.sequence != number or header.payload_bytes != _CLOCK.size:
        raise ProtocolError(
            f"probe: got {header.kind.name} {header.sequence} of {header.payload_bytes} bytes,"
            f" expected ECHO {number} of {_CLOCK.size}"
        )
    arrived_s, answered_s = _CLOCK.unpack(echo.buffer)
    pool.give(echo.buffer)
    return ClockExchange(sent_s=start_s, arrived_s=arrived_s, answered_s=answered_s, returned_s=end_s)


def _bearable_bytes(connection: Connection, pool: BufferPool, number: int, quickest_s: float) -> int:
    """What the path carries in the longest time that a transfer may take, as one message of a piece's size tells."""
    piece = memoryview(b"\x5a" * BULK_PIECE_BYTES)
    took_s = _exchange(connection, pool, number, piece).round_trip_s - quickest_s
    return max(_MIN_BULK_BYTES, int(_LONGEST_BULK_S / max(took_s, 1e-6) * BULK_PIECE_BYTES))


def _typical_bulk(connection: Connection, pool: BufferPool, total_bytes: int) -> tuple[int, float | None]:
    """Bytes of a transfer and its goodput: the median of several where one lasts no longer than a busy moment."""
    found_bps: list[float | None] = []
    while len(found_bps) < _MOST_BULKS:
        start_s = time.monotonic()
        sent_bytes, goodput_bps = _bulk(connection, pool, total_bytes)
        found_bps.append(goodput_bps)
        if time.monotonic() - start_s > _LONG_BULK_S:
            break
    told_bps = [goodput_bps for goodput_bps in found_bps if goodput_bps is not None]
    return sent_bytes, statistics.median(told_bps) if told_bps else None


def _bulk(connection: Connection, pool: BufferPool, total_bytes: int) -> tuple[int, float | None]:
    # At least eight, or the second half of a short transfer would be one arrival, which has no rate.
    piece = bytes(min(BULK_PIECE_BYTES, -(-total_bytes // 8)))
    pieces = -(-total_bytes // len(piece))
    sent_again = _sent_again(connection)
    for number in range(pieces):
        connection.send(Kind.BULK, number, payload=(piece,))
    send_control(connection, BulkEnd())
    found = receive_control(connection, pool, BulkMeasured)
    lost_some = _sent_again(connection) > sent_again
    return pieces * len(piece), found.unheld_bps if lost_some else found.goodput_bps


def _sent_again(connection: Connection) -> int:
    count = tcp_info(connection.socket).get("retransmits")
    return count if isinstance(count, int) else 0


def _echo_sweep(
    connection: Connection, pool: BufferPool, limit_s: float
) -> tuple[tuple[EchoSample, ...], tuple[int, ...]]:
    """Round trips of each size, and the sizes that were left out: they would not fit in what is left of the time.

    A size may take at most `_ECHO_STEP` times what the one before took; where even the fewest repeats of it might
    take too long, it and all larger ones are left out.
    """
    deadline_s = time.monotonic() + limit_s
    found: list[EchoSample] = []
    for place, size in enumerate(ECHO_SIZES_BYTES):
        expected_s = _ECHO_STEP * statistics.median(found[-1].round_trips_s) if found else 0.0
        if time.monotonic() + (1 + _FEWEST_ECHO_REPEATS) * expected_s > deadline_s:
            return tuple(found), ECHO_SIZES_BYTES[place:]
        # Written to, unlike bytes(size): pages that were never touched are all the same one, and cost nothing to read.
        payload = memoryview(bytearray(b"\x5a") * size)
        share_end_s = time.monotonic() + limit_s / (len(ECHO_SIZES_BYTES) + 1)
        times_s: list[float] = []
        while len(times_s) <= _ECHO_REPEATS and (
            len(times_s) <= _FEWEST_ECHO_REPEATS or time.monotonic() < share_end_s
        ):
            times_s.append(_exchange(connection, pool, len(times_s), payload).round_trip_s)
        found.append(EchoSample(size_bytes=size, warmup_s=tuple(times_s[:1]), round_trips_s=tuple(times_s[1:])))
    return tuple(found), ()


def _rested(
    connection: Connection, pool: BufferPool, echo: Sequence[EchoSample], limit_s: float
) -> tuple[RestedSample, ...]:
    """Round trips after pauses, of the sizes that the sweep found quick, in as many whole rounds as there is time for.

    A round has each pause with each size once, so that what the machine does meanwhile meets all of them alike, and in
    an order of its own: after the same pause a message comes later where many bytes went before it. One without a
    pause comes behind one of its size that is not kept, before which there was a rest.
    """
    typical_s = {sample.size_bytes: statistics.median(sample.round_trips_s) for sample in echo}
    sizes = [size for size in _RESTED_SIZES_BYTES if typical_s.get(size, math.inf) <= _LONGEST_RESTED_S]
    found: dict[tuple[int, float], list[float]] = {(size, pause_s): [] for size in sizes for pause_s in _PAUSES_S}
    payloads = {size: memoryview(bytearray(b"\x5a") * size) for size in sizes}
    round_s = sum(pause_s + typical_s[size] for size, pause_s in found)
    end_s = time.monotonic() + limit_s
    for number in range(_RESTED_ROUNDS if sizes else 0):
        start_s = time.monotonic()
        if start_s + round_s > end_s:
            break
        for size, pause_s in random.Random(number).sample(list(found), len(found)):
            if pause_s == 0:
                _exchange(connection, pool, number, payloads[size])
            time.sleep(pause_s)
            found[size, pause_s].append(_exchange(connection, pool, number, payloads[size]).round_trip_s)
        round_s = max(round_s, time.monotonic() - start_s)
    return tuple(
        RestedSample(pause_s=pause_s, size_bytes=size, round_trips_s=tuple(times_s))
        for (size, pause_s), times_s in found.items()
        if times_s
    )


def answer_probe(connection: Connection) -> None:
    """Serve one probe at the listening end, until the dialling one is done."""
    connection.socket.settimeout(SILENCE_LIMIT_S)
    pool = BufferPool()
    arrivals: list[tuple[float, int]] = []
    while True:
        message = connection.receive(pool, max(ECHO_SIZES_BYTES[-1], BULK_PIECE_BYTES))
        if message.header.kind is Kind.PING:
            clock = _CLOCK.pack(message.end_s, time.monotonic())
            connection.send(Kind.ECHO, message.header.sequence, payload=(clock,))
        elif message.header.kind is Kind.BULK:
            # Two numbers a piece: a probe of 32 MiB keeps 512 of them.
            arrivals.append((message.end_s, message.header.payload_bytes))
        else:
            request = decode_control(message)
            if not isinstance(request, BulkEnd):
                send_control(connection, ProbeEnded(tcp_info=tcp_info(connection.socket)))
                return
            goodput_bps, unheld_bps = second_half_goodput_bps(arrivals), unheld_goodput_bps(arrivals)
            send_control(connection, BulkMeasured(goodput_bps=goodput_bps, unheld_bps=unheld_bps))
            arrivals.clear()
        pool.give(message.buffer)


def second_half_goodput_bps(arrivals: list[tuple[float, int]]) -> float | None:
    """Bits per second over the second half of the bytes.

    Parameters
    ----------
    arrivals : when each piece was complete (seconds, rising) and its bytes.

    >>> second_half_goodput_bps([(0.0, 100), (5.0, 100), (6.0, 100), (7.0, 100)])
    800.0
    """
    return next(_rates_from_third_quarter(arrivals), None)


def unheld_goodput_bps(arrivals: list[tuple[float, int]]) -> float | None:
    """Bits per second from that moment of the third quarter of the bytes from which it is least.

    What waits behind a lost segment comes all at once when that has been sent again. Counted from within such a wait,
    those bytes came faster than any link: most of them had crossed it before. Right after it none are held back, and
    the rest comes as it crosses. Where nothing was lost, it would pick whatever moment a slow wake-up came after.
    """
    return min(_rates_from_third_quarter(arrivals), default=None)


def _rates_from_third_quarter(arrivals: list[tuple[float, int]]) -> Iterator[float]:
    """Of the bytes after each arrival in the third quarter, and of those after the first beyond where there is none."""
    total_bytes = sum(size for _, size in arrivals)
    seen_bytes = 0
    has_some = False
    for time_s, size in arrivals:
        seen_bytes += size
        if has_some and seen_bytes > total_bytes * 3 / 4:
            return
        if seen_bytes >= total_bytes / 2 and arrivals[-1][0] > time_s:
            has_some = True
            yield (total_bytes - seen_bytes) * 8 / (arrivals[-1][0] - time_s)
