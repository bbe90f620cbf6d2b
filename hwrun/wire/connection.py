"""Frames over a connected stream.

Header and payload leave in one `sendmsg`; a payload is received by `recv_into` straight into the buffer that the
tensors will be views of, so the only copies are the kernel's.
"""

from __future__ import annotations

import functools
import math
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence

from hwrun.errors import PeerGoneError, TimedOutError
from hwrun.wire.buffer_pool import ALIGNMENT_BYTES, BufferPool
from hwrun.wire.frames import (
    HEADER_BYTES,
    REMEMBERED,
    TENSOR_HEADER_BYTES,
    Header,
    Kind,
    TensorSpec,
    decode_header,
    decode_tensor_headers,
    encode,
)
from hwrun.wire.sockets import is_loopback
from hwrun.wire.tls import Stream

# UIO_MAXIOV of Linux (sendmsg(2)): at most this many pieces in one call.
_MAX_PIECES = 1024
_NEVER = math.inf
# A receiver that is faster than its sender sleeps after each segment (64 kB over loopback), and waking it is the
# sender's work: on a virtual machine, where that leaves the guest, 102.8 MB took 65 ms with 1500 wake-ups and 33 with
# 24. So over loopback it is woken once this share of what is missing has come, or so many bytes, while much is missing.
_WAKE_SHARE = 4
_WAKE_AT_MOST_BYTES = 4 * 2**20
_MUCH_BYTES = 256 * 2**10
# A frame that has begun is whole in its sender's memory, so it arrives as fast as the path carries it. One that comes
# slower than any path that is measured comes from a peer, or over a path, that is broken.
_FRAME_GRACE_S = 30.0
_LEAST_BYTES_PER_S = 1000.0
# At a time, of what comes to an end that is shut down.
_THROWN_AWAY_BYTES = 2**16
# poll(2): the peer has closed its end. Elsewhere than on Linux that shows only once both ends have.
_HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)


class Message:
    """A frame that has begun, its headers here and checked, or that is received.

    Once it is, `buffer` holds the payload, tensors at their `places`; give it back to its pool. `start_s` is when the
    first header had arrived, `end_s` when the last byte was in the buffer, on this process's monotonic clock.
    """

    __slots__ = ("buffer", "end_s", "header", "specs", "start_s")
    buffer: memoryview
    end_s: float

    def __init__(self, header: Header, specs: tuple[TensorSpec, ...], start_s: float) -> None:
        self.header = header
        self.specs = specs
        self.start_s = start_s


class Connection:
    """Frames over a connected stream socket. One thread may send while another receives.

    Parameters
    ----------
    peer : what to call the other side in messages.
    """

    def __init__(self, stream: Stream, peer: str) -> None:
        self.socket = stream
        self.peer = peer
        self._sending = threading.Lock()
        self._header = bytearray(HEADER_BYTES)
        self._room = memoryview(self._header)
        # Elsewhere the kernel's own choice stays, since a threshold widens the receive buffer, and with it the window.
        # Under TLS bytes are not counted as they are on the wire.
        self._may_sleep_longer = sys.platform == "linux" and isinstance(stream, socket.socket) and is_loopback(stream)
        self._wakes_at = 1

    def send(
        self,
        kind: Kind,
        sequence: int = 0,
        *,
        specs: Sequence[TensorSpec] = (),
        payload: Sequence[memoryview | bytes] = (),
    ) -> None:
        """Send one frame; returns when its last byte is the kernel's.

        Raises
        ------
        PeerGoneError : the other side closed, or this one was shut down.
        TimedOutError : it takes nothing, within what `bound_sends` allows; then this end is shut down.
        """
        pieces = [memoryview(piece).cast("B") for piece in payload if len(piece)] if payload else []
        payload_bytes = sum([piece.nbytes for piece in pieces])
        header = encode(kind, sequence, specs, payload_bytes)
        with self._sending:
            try:
                # Most frames leave in one call, a batch's as far as there is room.
                sent = self.socket.sendmsg([header, *pieces[: _MAX_PIECES - 1]])
                if sent == len(header) + payload_bytes:
                    return
                pending = [memoryview(header), *pieces]
                while True:
                    while pending and sent >= pending[0].nbytes:
                        sent -= pending.pop(0).nbytes
                    if not pending:
                        return
                    if sent:
                        pending[0] = pending[0][sent:]
                    sent = self.socket.sendmsg(pending[:_MAX_PIECES])
            except BlockingIOError as error:
                self.shut_down()  # what follows half a frame would be taken for its rest
                raise TimedOutError(f"{self.peer}: takes no {kind.name}; the peer, or the path, is stuck") from error
            except OSError as error:
                raise PeerGoneError(f"{self.peer}: sending {kind.name}: {error.strerror or error}") from error

    def receive(self, pool: BufferPool, limit_bytes: int) -> Message:
        """The next frame, its payload in a buffer of `pool`.

        Parameters
        ----------
        limit_bytes : the longest payload that was agreed; checked before anything is allocated.

        Raises
        ------
        ProtocolError : the frame is not of this protocol or longer than agreed.
        PeerGoneError : the other side closed, or this one was shut down.
        TimedOutError : a frame that has begun does not go on; or nothing came within the socket's time limit.
        """
        message = self.begin(limit_bytes)
        room_bytes = places(message.specs)[1] if message.specs else message.header.payload_bytes
        self.complete(message, pool.take(room_bytes))
        return message

    def begin(self, limit_bytes: int) -> Message:
        """The next frame as soon as its headers are here; `complete` has to follow.

        Room for it can have been made before, which its bytes then need not wait for. Parameters and errors are those
        of `receive`.
        """
        first = self._some(self._room, _NEVER)
        if first < HEADER_BYTES:
            self._fill(self._room[first:], time.monotonic() + _FRAME_GRACE_S)
        start_s = time.monotonic()
        header = decode_header(self._header, limit_bytes)
        if not header.tensors:
            return Message(header, (), start_s)
        raw = bytearray(header.tensors * TENSOR_HEADER_BYTES)
        self._fill(memoryview(raw), _end_s(header, start_s))
        return Message(header, decode_tensor_headers(raw, header), start_s)

    def complete(self, message: Message, buffer: memoryview) -> None:
        """Receive the payload of the message that has begun.

        Parameters
        ----------
        buffer : of the payload's length; where there are tensors, of the one that their `places` say.

        Raises
        ------
        PeerGoneError, TimedOutError : as `receive`.
        """
        message.buffer = buffer
        payload_bytes = message.header.payload_bytes
        if not payload_bytes:
            message.end_s = message.start_s
            return
        end_s = _end_s(message.header, message.start_s)
        if buffer.nbytes == payload_bytes:
            self._fill(buffer, end_s)
        else:  # places between tensors, to align the next one
            for spec, offset in zip(message.specs, places(message.specs)[0], strict=True):
                self._fill(buffer[offset : offset + spec.size_bytes], end_s)
        message.end_s = time.monotonic()

    def _fill(self, view: memoryview, end_s: float) -> None:
        """Receive all of `view` by `end_s` of the monotonic clock."""
        while view.nbytes:
            # What is waited for at a time leaves at least as much to come as is to wake this thread: a sleep that began
            # with some of it copied would else not end.
            later = 0
            if self._may_sleep_longer:
                if view.nbytes >= _MUCH_BYTES:
                    later = min(view.nbytes // _WAKE_SHARE, _WAKE_AT_MOST_BYTES)
                self._wake_at(later or 1)
            # The kernel waits for all of it, but for _WAKE_S at most: one call, where each one that comes back early
            # finds Python's memory out of the caches.
            view = view[self._some(view[: view.nbytes - later], end_s, socket.MSG_WAITALL) :]

    def _wake_at(self, count_bytes: int) -> None:
        """Let a thread that waits for bytes sleep until so many are here, or the connection ends (socket(7))."""
        if count_bytes != self._wakes_at:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count_bytes)
            self._wakes_at = count_bytes

    def _some(self, view: memoryview, end_s: float, flags: int = 0) -> int:
        """Receive at least one byte; how many."""
        while True:
            if end_s is not _NEVER and time.monotonic() > end_s:
                raise TimedOutError(
                    f"{self.peer}: a frame that has begun is still not whole; the peer, or the path, is stuck"
                )
            try:
                count = self.socket.recv_into(view, 0, flags)
            except BlockingIOError:
                continue  # nothing for _WAKE_S
            except OSError as error:
                if isinstance(error, TimeoutError) and error.errno is None:  # ours; the kernel's own is ETIMEDOUT
                    raise TimedOutError(f"{self.peer}: said nothing in time") from error
                raise PeerGoneError(f"{self.peer}: receiving: {error.strerror or error}") from error
            if count == 0:
                raise PeerGoneError(f"{self.peer}: closed the connection")
            return count

    def peer_has_left(self) -> bool:
        """Whether the other side has closed, or this one is; what was sent before may still wait to be received."""
        descriptor = self.socket.fileno()
        if descriptor < 0:
            return True
        poll = select.poll()
        poll.register(descriptor, _HUNG_UP)
        return bool(poll.poll(0))

    def shut_down(self) -> None:
        """End both directions: wakes threads blocked in `send` and `receive`, here and at the peer.

        What has come is thrown away. A peer that is sending would else wait for room in this end's buffer, and the
        kernel tells it that nobody reads on only once it sends again or the socket is closed.
        """
        raw = self.socket if isinstance(self.socket, socket.socket) else self.socket.raw
        try:
            raw.shutdown(socket.SHUT_RDWR)
            while raw.recv(_THROWN_AWAY_BYTES):
                pass
        except OSError:
            return  # already gone, which is what was wanted

    def close(self) -> None:
        """Shut down and release the socket; only once no thread uses it."""
        self.shut_down()
        self.socket.close()


def _end_s(header: Header, start_s: float) -> float:
    """When a frame that began at `start_s` has to be whole."""
    return start_s + _FRAME_GRACE_S + header.payload_bytes / _LEAST_BYTES_PER_S


@functools.lru_cache(REMEMBERED)
def places(specs: tuple[TensorSpec, ...]) -> tuple[tuple[int, ...], int]:
    """Aligned offset of each tensor in one buffer, and the buffer's size."""
    offsets: list[int] = []
    end = 0
    for spec in specs:
        end = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        offsets.append(end)
        end += spec.size_bytes
    return tuple(offsets), end
