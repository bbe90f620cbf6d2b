"""TLS on a connection: mutual, by certificates of the lab's own authority, and full-duplex.

A worker receives on a connection in one thread while another sends on it. An `ssl.SSLSocket` is not made for
that, so TLS runs here between two memory buffers, and a lock is held while bytes are en- or decrypted, never while
a thread waits for the network. Only TLS 1.3 is spoken. Both ends show a certificate, and the end that dials checks
that the other's names the address that was dialled: a stolen token alone opens nothing.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwrun.errors import BadUsageError, HwrunError, PeerGoneError, ProtocolError, TimedOutError
from hwrun.wire.private_file import require_private

# Encrypted in one go before it is sent: large enough to be fast, small enough to hold twice.
_PIECE_BYTES = 256 * 2**10


class CertificateError(HwrunError):
    """One end's certificate is not what the other accepts."""


@dataclass(frozen=True)
class TlsFiles:
    """Paths of this host's certificate and its key, and of the authority's certificate that peers are checked by."""

    certificate: Path
    key: Path
    authority: Path


class Tls:
    """This host's TLS identity, for both ends of connections. Make one with `load_tls`."""

    def __init__(self, dialling: ssl.SSLContext, listening: ssl.SSLContext) -> None:
        self._dialling, self._listening = dialling, listening

    def dialled(self, stream: socket.socket, host: str, limit_s: float) -> TlsStream:
        """TLS on a connection that this end dialled, once `host`'s certificate has been checked.

        Raises
        ------
        CertificateError : the other's certificate is not accepted here.
        ProtocolError, PeerGoneError, TimedOutError : it does not speak TLS, left, or says nothing.
        """
        return _shaken(stream, lambda got, to_go: self._dialling.wrap_bio(got, to_go, server_hostname=host), limit_s)

    def accepted(self, stream: socket.socket, limit_s: float) -> TlsStream:
        """TLS on a connection that the other end dialled, once its certificate has been checked."""
        return _shaken(stream, lambda got, to_go: self._listening.wrap_bio(got, to_go, server_side=True), limit_s)


def load_tls(files: TlsFiles) -> Tls:
    """The identity in these files.

    Raises
    ------
    BadUsageError : a file that is absent, open to others, or not what it should be; says which.
    """
    for what, path in (("certificate", files.certificate), ("key", files.key), ("authority", files.authority)):
        try:
            path.read_bytes()
        except OSError as error:
            raise BadUsageError(f"TLS {what}: {path} cannot be read: {error.strerror}") from error
    require_private(files.key, "TLS key")
    dialling, listening = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in (dialling, listening):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.authority)
        except ssl.SSLError as error:
            raise BadUsageError(
                f"TLS authority: {files.authority} holds no PEM certificate ({_said(error)})"
            ) from error
        try:
            # Without a password of ours OpenSSL would ask the terminal for one.
            context.load_cert_chain(files.certificate, files.key, password="")
        except ssl.SSLError as error:
            raise BadUsageError(
                f"TLS certificate: {files.certificate} and key {files.key} do not belong together, or are not plain PEM"
                f" ({_said(error)}); expected a certificate and its unencrypted key"
            ) from error
    # A session is never resumed, and tickets that nobody reads would make closing look like a broken connection.
    listening.num_tickets = 0
    return Tls(dialling, listening)


class TlsStream:
    """A connected socket with TLS on it; has what is used of a socket, with the same meaning.

    One thread may send while another receives. What a read leaves to be said goes out with the next write.
    """

    def __init__(self, stream: socket.socket, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO):
        self._stream = stream
        self._tls, self._incoming, self._outgoing = tls, incoming, outgoing
        self._crypting = threading.Lock()
        self._sending = threading.Lock()
        self._received = memoryview(bytearray(_PIECE_BYTES))

    @property
    def raw(self) -> socket.socket:
        """The socket beneath."""
        return self._stream

    @property
    def family(self) -> int:
        """The socket's address family."""
        return self._stream.family

    def sendmsg(self, pieces: Sequence[memoryview | bytes]) -> int:
        """Send the beginning of `pieces`; how many bytes of them that was."""
        taken = 0
        with self._sending:
            with self._crypting:
                for piece in pieces:
                    part = memoryview(piece)[: _PIECE_BYTES - taken]
                    if part.nbytes:
                        taken += self._tls.write(part)
                    if taken == _PIECE_BYTES:
                        break
                encrypted = self._outgoing.read()
            self._stream.sendall(encrypted)
        return taken

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        while view.nbytes:
            view = view[self.sendmsg([view]) :]

    def recv(self, count: int) -> bytes:
        """At least one and at most `count` bytes; none at the end of the stream."""
        room = bytearray(count)
        return bytes(memoryview(room)[: self.recv_into(room)])

    def recv_into(self, room: bytearray | memoryview, count: int = 0, flags: int = 0) -> int:
        """Fill the beginning of `room` (the whole with MSG_WAITALL); how far, 0 at the end of the stream."""
        view = memoryview(room)[: count or None]
        limit_s = self._stream.gettimeout()
        end_s = None if limit_s is None else time.monotonic() + limit_s
        filled = 0
        while filled < view.nbytes:
            with self._crypting:
                try:
                    filled += self._tls.read(view.nbytes - filled, view[filled:])  # type: ignore[operator]  # a count, into a buffer
                    continue
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    break
            if filled and not flags & socket.MSG_WAITALL:
                break
            # The bound holds for the whole call: a peer must not renew it by a byte now and then.
            if end_s is not None:
                _await_readable(self._stream, end_s)
            try:
                arrived = self._stream.recv_into(self._received)
            except BlockingIOError:
                if filled:
                    break
                raise
            with self._crypting:
                if arrived:
                    self._incoming.write(self._received[:arrived])
                else:
                    self._incoming.write_eof()
        return filled

    def settimeout(self, limit_s: float | None) -> None:
        """How long one call may take."""
        self._stream.settimeout(limit_s)

    def gettimeout(self) -> float | None:
        """How long one call may take."""
        return self._stream.gettimeout()

    def getsockopt(self, level: int, option: int, *room: int) -> Any:
        """An option of the socket."""
        return self._stream.getsockopt(level, option, *room)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the socket."""
        self._stream.setsockopt(level, option, value)

    def getsockname(self) -> Any:
        """The socket's own address."""
        return self._stream.getsockname()

    def getpeername(self) -> Any:
        """The other end's address."""
        return self._stream.getpeername()

    def fileno(self) -> int:
        """The socket's descriptor; that it is readable does not say that a plain byte is there."""
        return self._stream.fileno()

    def close(self) -> None:
        """Release the socket."""
        self._stream.close()


Stream = socket.socket | TlsStream


def _shaken(
    stream: socket.socket, wrap: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], ssl.SSLObject], limit_s: float
) -> TlsStream:
    """The stream once both ends have shaken hands, within `limit_s` in all."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = wrap(incoming, outgoing)
    end_s = time.monotonic() + limit_s
    done = False
    try:
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            stream.settimeout(max(0.001, end_s - time.monotonic()))
            stream.sendall(outgoing.read())
            if not done:
                arrived = stream.recv(_PIECE_BYTES)
                if not arrived:
                    raise PeerGoneError("TLS: the peer closed during the handshake; expected TLS at both ends")
                incoming.write(arrived)
    except TimeoutError as error:
        raise TimedOutError(f"TLS: the handshake was not through within {limit_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        _tell(stream, outgoing)
        raise CertificateError(
            f"TLS: the peer's certificate is not accepted: {error.verify_message}; expected one of the authority's,"
            " which names the address that was dialled"
        ) from error
    except ssl.SSLError as error:
        _tell(stream, outgoing)
        if "CERTIFICATE" in (error.reason or ""):
            raise CertificateError(f"TLS: {_said(error)}; expected a certificate of the same authority") from error
        raise ProtocolError(f"TLS: {_said(error)}; expected TLS 1.3 at both ends") from error
    except OSError as error:
        raise PeerGoneError(f"TLS: the peer left ({error})") from error
    stream.settimeout(None)
    return TlsStream(stream, tls, incoming, outgoing)


def _tell(stream: socket.socket, outgoing: ssl.MemoryBIO) -> None:
    """Send the alert that says why, where the peer still listens."""
    try:
        stream.sendall(outgoing.read())
    except OSError:
        return  # it left; there is nobody to tell


def _await_readable(stream: socket.socket, end_s: float) -> None:
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    if not poll.poll(max(0.0, end_s - time.monotonic()) * 1000):
        raise TimeoutError("timed out")


def _said(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words."""
    return (error.reason or str(error)).replace("_", " ").lower()
