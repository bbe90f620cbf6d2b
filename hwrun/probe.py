"""Probing a data path: round trips of an empty message, and goodput of a bounded transfer.

A probe uses a connection of its own, so that the pipeline's sockets keep the state they are in. The receiver
measures goodput over the second half of the bytes, when slow start is over, on its own clock.
"""

from __future__ import annotations

import time
from typing import Protocol

from hwrun.errors import ProtocolError
from hwrun.wire.control import BulkMeasured, Done, Probed, decode_control, receive_control, send_control
from hwrun.wire.frames import Kind
from hwrun.wire.tcp import BufferPool, Connection

# Probe messages carry at most one piece of this size.
BULK_PIECE_BYTES = 64 * 2**10
# Half of the transfer has to outlast slow start, and all of it should take no longer than this on a slow link.
_BULK_S = 2.0
_LONGEST_BULK_S = 10.0
_WANTED_BULK_BYTES = 256 * 2**10
_MIN_BULK_BYTES = 16 * 2**10
_MAX_BULK_BYTES = 32 * 2**20
# A path over which nothing moves for this long is dead: neither end of a probe waits longer.
SILENCE_LIMIT_S = 30.0
MIN_PINGS = 5


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


def run_probe(connection: Connection, pings: int, total_bytes: int) -> Probed:
    """Probe from the dialling end.

    Parameters
    ----------
    pings : round trips to time, after one that is not counted.
    total_bytes : of the transfer.
    """
    connection.socket.settimeout(SILENCE_LIMIT_S)
    pool = BufferPool()
    samples_s = []
    for number in range(max(MIN_PINGS, pings) + 1):
        start_s = time.monotonic()
        connection.send(Kind.PING, number)
        echo = connection.receive(pool, 0)
        end_s = time.monotonic()
        if echo.header.kind is not Kind.ECHO or echo.header.sequence != number:
            raise ProtocolError(f"probe: got {echo.header.kind.name} {echo.header.sequence}, expected ECHO {number}")
        if number:
            samples_s.append(end_s - start_s)
    # At least eight, or the second half of a short transfer would be one arrival, which has no rate.
    piece = bytes(min(BULK_PIECE_BYTES, -(-total_bytes // 8)))
    pieces = -(-total_bytes // len(piece))
    for number in range(pieces):
        connection.send(Kind.BULK, number, payload=(piece,))
    send_control(connection, Done())
    measured = receive_control(connection, pool, BulkMeasured)
    return Probed(rtt_samples_s=tuple(samples_s), goodput_bps=measured.goodput_bps, bulk_bytes=pieces * len(piece))


def answer_probe(connection: Connection) -> None:
    """Serve one probe at the listening end, until its transfer is over."""
    connection.socket.settimeout(SILENCE_LIMIT_S)
    pool = BufferPool()
    arrivals: list[tuple[float, int]] = []
    while True:
        message = connection.receive(pool, BULK_PIECE_BYTES)
        if message.header.kind is Kind.PING:
            connection.send(Kind.ECHO, message.header.sequence)
        elif message.header.kind is Kind.BULK:
            # Two numbers a piece: a probe of 32 MiB keeps 512 of them.
            arrivals.append((message.end_s, message.header.payload_bytes))
        else:
            decode_control(message)
            send_control(connection, BulkMeasured(goodput_bps=second_half_goodput_bps(arrivals)))
            return
        pool.give(message.buffer)


def second_half_goodput_bps(arrivals: list[tuple[float, int]]) -> float | None:
    """Bits per second over the second half of the bytes.

    Parameters
    ----------
    arrivals : when each piece was complete (seconds, rising) and its bytes.

    >>> second_half_goodput_bps([(0.0, 100), (5.0, 100), (6.0, 100), (7.0, 100)])
    800.0
    """
    half_bytes = sum(size for _, size in arrivals) / 2
    seen_bytes = 0
    for index, (time_s, size) in enumerate(arrivals):
        seen_bytes += size
        if seen_bytes >= half_bytes:
            rest_bytes = sum(later for _, later in arrivals[index + 1 :])
            rest_s = arrivals[-1][0] - time_s
            return rest_bytes * 8 / rest_s if rest_s > 0 and rest_bytes else None
    return None
