"""Sockets that carry frames: addresses, connections, reused receive buffers, and what TCP says of itself.

Header and payload leave in one `sendmsg`; a payload is received by `recv_into` straight into the buffer that
the tensors will be views of, so the only copies are the kernel's. Nagle is off: a small frame never waits for
an acknowledgement. Socket buffer sizes are left to the kernel's own tuning.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hwrun.errors import BadUsageError, PeerGoneError, TimedOutError
from hwrun.wire.frames import (
    HEADER_BYTES,
    TENSOR_HEADER_BYTES,
    Header,
    Kind,
    TensorSpec,
    decode_header,
    decode_tensor_headers,
    encode,
)
from hwrun.wire.tls import Stream

# torch's own allocator aligns to 64 bytes: vector loads on a received tensor then cost what they do on a local one.
ALIGNMENT_BYTES = 64
# UIO_MAXIOV of Linux (sendmsg(2)): at most this many pieces in one call.
_MAX_PIECES = 1024
_NEVER = math.inf
_DIAL_LIMIT_S = 15.0
# A frame that has begun is whole in its sender's memory, so it arrives as fast as the path carries it. One that comes
# slower than any path that is measured comes from a peer, or over a path, that is broken.
_FRAME_GRACE_S = 30.0
_LEAST_BYTES_PER_S = 1000.0
# Seconds of silence before the first question, seconds between questions, and how many go unanswered (tcp(7)).
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 4}
# Within one machine nothing is congested, and what paces its segments by a rate that it has to guess (BBR, the default
# of some kernels) only holds bytes back: between two virtual cores 12.8 and 102.8 MB took half as long again. Where
# cubic is not to be had the host's own stays. Links between machines, or with a rate of their own, keep what their
# route says.
_LOOPBACK_CONGESTION_CONTROL = b"cubic"
# How often a thread that waits for bytes looks at the clock.
_WAKE_S = 5


class Address(msgspec.Struct, frozen=True):
    """Where to listen or dial: a host and port, or the path of a unix socket.

    >>> str(Address.parse("127.0.0.1:7000")), str(Address.parse("unix:/run/w"))
    ('127.0.0.1:7000', 'unix:/run/w')
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address written as `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path or len(os.fsencode(path)) > 107:  # sun_path of unix(7) with its closing zero
                raise BadUsageError(f"address: got {text!r}, expected unix: and a path of 1 to 107 bytes")
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise BadUsageError(f"address: got {text!r}, expected HOST:PORT (port 0 to 65535) or unix:PATH")
        return cls(host=host, port=int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this host can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def listen(address: Address, backlog: int = 16) -> socket.socket:
    """A listening socket at `address`; a unix socket's leftover file is replaced, a live one's is not.

    Raises
    ------
    BadUsageError : the address cannot be bound; says why.
    """
    listener = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        if address.path:
            _remove_stale(Path(address.path))
            # Only the owner may dial a unix socket, whatever the umask is.
            previous = os.umask(0o177)
            try:
                listener.bind(address.path)
            finally:
                os.umask(previous)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address.host, address.port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise BadUsageError(f"listen: {address} cannot be bound: {error.strerror or error}; give another") from error
    return listener


def _family(address: Address) -> socket.AddressFamily:
    if address.path:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _remove_stale(path: Path) -> None:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)


def dial(address: Address, limit_s: float = _DIAL_LIMIT_S) -> socket.socket:
    """A connected socket, in the network namespace of the calling thread.

    Raises
    ------
    PeerGoneError : nobody listens there, or it cannot be reached.
    TimedOutError : no answer within `limit_s`.
    """
    try:
        if address.path:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(limit_s)
                connection.connect(address.path)
            except OSError:
                connection.close()
                raise
        else:
            connection = socket.create_connection((address.host, address.port), timeout=limit_s)
    except TimeoutError as error:
        raise TimedOutError(f"dial: {address} did not answer within {limit_s:g} s") from error
    except OSError as error:
        raise PeerGoneError(f"dial: {address}: {error.strerror or error}; is a worker listening there?") from error
    connection.settimeout(None)
    return prepared(connection)


def prepared(connection: socket.socket) -> socket.socket:
    """The socket with Nagle off, a dead peer noticed within about half a minute, and waits that end now and then.

    Over loopback nothing paces it (_LOOPBACK_CONGESTION_CONTROL).

    While it has no time limit, a wait for bytes ends every few seconds with BlockingIOError (SO_RCVTIMEO of socket(7)),
    which costs nothing while bytes come.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _WAKE_S, 0))
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        if _is_loopback(connection):
            with contextlib.suppress(OSError):  # not loaded, or not permitted
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _LOOPBACK_CONGESTION_CONTROL)
    return connection


def _is_loopback(connection: socket.socket) -> bool:
    try:
        return ipaddress.ip_address(connection.getpeername()[0]).is_loopback
    except OSError:  # the peer is gone already, which the first call to send or receive will say
        return False


_NOTHING = memoryview(bytearray())


class BufferPool:
    """Receive buffers that are used again, found by size: a fresh one would pay page faults in every batch.

    Parameters
    ----------
    kept : free buffers held at most, of whatever sizes; the one that was returned first is dropped for another.
    """

    def __init__(self, kept: int = 2) -> None:
        self._kept = kept
        self._free: list[memoryview] = []
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> memoryview:
        """A writable buffer of exactly that size, aligned to ALIGNMENT_BYTES, with any content."""
        if size_bytes == 0:
            return _NOTHING
        with self._lock:
            for place, buffer in enumerate(self._free):
                if buffer.nbytes == size_bytes:
                    return self._free.pop(place)
        room = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
        start = -room.ctypes.data % ALIGNMENT_BYTES
        return room.data[start : start + size_bytes]

    def give(self, buffer: memoryview) -> None:
        """Return a buffer that nothing views any more."""
        if buffer.nbytes == 0:
            return
        with self._lock:
            self._free.append(buffer)
            if len(self._free) > self._kept:
                self._free.pop(0)


class Message:
    """A received frame. `buffer` holds the payload, each tensor at its `offsets` place; give it back to its pool.

    `start_s` is when the header had arrived, `end_s` when the last byte was in the buffer, on this process's
    monotonic clock.
    """

    __slots__ = ("buffer", "end_s", "header", "offsets", "specs", "start_s")

    def __init__(
        self,
        header: Header,
        specs: tuple[TensorSpec, ...],
        offsets: tuple[int, ...],
        buffer: memoryview,
        start_s: float,
        end_s: float,
    ) -> None:
        self.header = header
        self.specs = specs
        self.offsets = offsets
        self.buffer = buffer
        self.start_s = start_s
        self.end_s = end_s


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
        message = self.begin(pool, limit_bytes)
        self.complete(message)
        return message

    def begin(self, pool: BufferPool, limit_bytes: int) -> Message:
        """The next frame as soon as its headers are here; its buffer is taken, and filled by `complete`.

        What has to be known of a frame, and views of its buffer, can be made in between, while its bytes are on their
        way. Parameters and errors are those of `receive`.
        """
        begun = self._some(self._room, _NEVER)
        if begun < HEADER_BYTES:
            self._fill(self._room[begun:], time.monotonic() + _FRAME_GRACE_S)
        start_s = time.monotonic()
        header = decode_header(self._header, limit_bytes)
        if not header.tensors:
            return Message(header, (), (), pool.take(header.payload_bytes), start_s, start_s)
        raw = bytearray(header.tensors * TENSOR_HEADER_BYTES)
        self._fill(memoryview(raw), _end_s(header, start_s))
        specs = decode_tensor_headers(raw, header)
        offsets, room_bytes = _places(specs)
        return Message(header, specs, offsets, pool.take(room_bytes), start_s, start_s)

    def complete(self, message: Message) -> None:
        """Receive the payload of a frame that `begin` returned.

        Raises
        ------
        PeerGoneError, TimedOutError : as `receive`.
        """
        if not message.header.payload_bytes:
            return
        end_s = _end_s(message.header, message.start_s)
        if message.specs:
            for spec, offset in zip(message.specs, message.offsets, strict=True):
                self._fill(message.buffer[offset : offset + spec.size_bytes], end_s)
        else:
            self._fill(message.buffer, end_s)
        message.end_s = time.monotonic()

    def _fill(self, view: memoryview, end_s: float) -> None:
        """Receive all of `view` by `end_s` of the monotonic clock."""
        while view.nbytes:
            view = view[self._some(view, end_s) :]

    def _some(self, view: memoryview, end_s: float) -> int:
        """Receive at least one byte; how many."""
        while True:
            if end_s is not _NEVER and time.monotonic() > end_s:
                raise TimedOutError(
                    f"{self.peer}: a frame that has begun is still not whole; the peer, or the path, is stuck"
                )
            try:
                count = self.socket.recv_into(view)
            except BlockingIOError:
                continue  # nothing for _WAKE_S
            except OSError as error:
                if isinstance(error, TimeoutError) and error.errno is None:  # ours; the kernel's own is ETIMEDOUT
                    raise TimedOutError(f"{self.peer}: said nothing in time") from error
                raise PeerGoneError(f"{self.peer}: receiving: {error.strerror or error}") from error
            if count == 0:
                raise PeerGoneError(f"{self.peer}: closed the connection")
            return count

    def shut_down(self) -> None:
        """End both directions: wakes threads blocked in `send` and `receive`, here and at the peer."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # already gone, which is what was wanted

    def close(self) -> None:
        """Shut down and release the socket; only once no thread uses it."""
        self.shut_down()
        self.socket.close()


def _end_s(header: Header, start_s: float) -> float:
    """When a frame that began at `start_s` has to be whole."""
    return start_s + _FRAME_GRACE_S + header.payload_bytes / _LEAST_BYTES_PER_S


def _places(specs: Sequence[TensorSpec]) -> tuple[tuple[int, ...], int]:
    """Aligned offset of each tensor in one buffer, and the buffer's size."""
    offsets: list[int] = []
    end = 0
    for spec in specs:
        end = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        offsets.append(end)
        end += spec.size_bytes
    return tuple(offsets), end


# struct tcp_info of linux/tcp.h: eight bytes, then these 32-bit numbers in this order.
_TCP_INFO_WORDS = (
    "rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets", "last_data_sent",
    "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh",
    "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans",
)  # fmt: skip
_TCP_INFO = struct.Struct(f"=8B{len(_TCP_INFO_WORDS)}I")


def tcp_info(stream: Stream) -> dict[str, str | int | float | bool | None]:
    """What the kernel says of a TCP connection from this, the sending, side; empty for a unix socket.

    Times in seconds, windows in segments: `rtt_s`, `rttvar_s`, `rto_s`, `cwnd`, `ssthresh`, `snd_mss_bytes`,
    `retransmits`, `congestion_control`, `send_buffer_bytes`, `receive_buffer_bytes`.
    """
    if stream.family not in (socket.AF_INET, socket.AF_INET6):
        return {}
    raw = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    words = dict(zip(_TCP_INFO_WORDS, _TCP_INFO.unpack(raw.ljust(_TCP_INFO.size, b"\0"))[8:], strict=True))
    name = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return {
        "rtt_s": words["rtt"] / 1e6,
        "rttvar_s": words["rttvar"] / 1e6,
        "rto_s": words["rto"] / 1e6,
        "cwnd": words["snd_cwnd"],
        "ssthresh": words["snd_ssthresh"],
        "snd_mss_bytes": words["snd_mss"],
        "retransmits": words["total_retrans"],
        "congestion_control": name.rstrip(b"\0").decode(),
        "send_buffer_bytes": stream.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        "receive_buffer_bytes": stream.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
    }


def buffer_bytes(connection: Connection | None, option: int) -> int | None:
    """SO_SNDBUF or SO_RCVBUF of a TCP connection as the kernel has tuned it by now; None of any other."""
    if connection is None or connection.socket.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return connection.socket.getsockopt(socket.SOL_SOCKET, option)
