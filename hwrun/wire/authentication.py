"""Who may talk: a challenge that both ends of a connection answer before anything else of it is read.

Each end sends a fixed hello with a fresh nonce, then an HMAC-SHA256, keyed by the shared token, over its own
side's name, what the connection is for, and both nonces. Side and purpose are in it so that an answer can
neither be reflected to its sender nor reused for another purpose. The token itself never travels. Without a
token the key is empty: that is permitted on loopback and unix sockets only (the caller sees to it).

An end reads no more than these fixed sizes from a peer it does not know, and not for longer than
HANDSHAKE_LIMIT_S.
"""

from __future__ import annotations

import enum
import hmac
import secrets
import struct
import time
from pathlib import Path

from hwrun.errors import BadUsageError, HwrunError, PeerGoneError, ProtocolError, TimedOutError
from hwrun.wire.frames import VERSION
from hwrun.wire.private_file import require_private
from hwrun.wire.tls import Stream

HANDSHAKE_LIMIT_S = 5.0
MIN_TOKEN_BYTES = 16
_MAGIC = b"hwra"
_HELLO = struct.Struct(">4sBB2x32s")
_PROOF_BYTES = 32
_REFUSED, _ACCEPTED = b"\0", b"\1"


class AuthenticationError(HwrunError):
    """The two ends do not hold the same token."""


class Purpose(enum.IntEnum):
    """What a connection is for."""

    CONTROL = 1
    DATA = 2
    PROBE = 3


def read_token(path: Path) -> bytes:
    """The token in a file, without the white space around it.

    Raises
    ------
    BadUsageError : unreadable, too short to be a secret, or readable by other users.
    """
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise BadUsageError(
            f"token file: {path} cannot be read: {error.strerror}; write one with: (umask 077; openssl rand -hex 32 >"
            f" {path}), the same for every worker and orchestrator"
        ) from error
    if len(token) < MIN_TOKEN_BYTES:
        raise BadUsageError(
            f"token file: {path} holds {len(token)} bytes, expected {MIN_TOKEN_BYTES} or more;"
            " write one with: openssl rand -hex 32"
        )
    require_private(path, "token file")
    return token


def new_token() -> bytes:
    """A fresh random token, printable."""
    return secrets.token_hex(32).encode()


def prove_to_listener(connection: Stream, token: bytes, purpose: Purpose) -> None:
    """Authenticate as the end that dialled, and check that the listener knows the token too.

    Raises
    ------
    AuthenticationError : the tokens differ.
    ProtocolError, PeerGoneError, TimedOutError : the peer is no worker, left, or says nothing.
    """
    deadline_s = time.monotonic() + HANDSHAKE_LIMIT_S
    own_nonce = secrets.token_bytes(32)
    _send(connection, _HELLO.pack(_MAGIC, VERSION, purpose, own_nonce), deadline_s)
    _, peer_nonce = _read_hello(_receive(connection, _HELLO.size, deadline_s))
    _send(connection, _proof(token, b"dialler", purpose, own_nonce, peer_nonce), deadline_s)
    answer = _receive(connection, 1 + _PROOF_BYTES, deadline_s)
    if answer[:1] != _ACCEPTED:
        raise AuthenticationError("token: the peer refused ours; give both sides the same token file")
    if not hmac.compare_digest(answer[1:], _proof(token, b"listener", purpose, own_nonce, peer_nonce)):
        raise AuthenticationError("token: the peer could not prove that it holds ours; do not trust it")
    connection.settimeout(None)


def admit_dialler(connection: Stream, token: bytes) -> Purpose:
    """Authenticate the end that dialled; what it wants the connection for.

    Raises
    ------
    AuthenticationError : its token is another.
    ProtocolError, PeerGoneError, TimedOutError : it is no worker or orchestrator, left, or says nothing.
    """
    deadline_s = time.monotonic() + HANDSHAKE_LIMIT_S
    raw = _receive(connection, _HELLO.size, deadline_s)
    if raw[:4] != _MAGIC:  # answer nothing to what is not of this protocol
        # 22 and 3: a TLS record with a handshake in it.
        hint = "; it speaks TLS and this end does not" if raw[:2] == b"\x16\x03" else ""
        raise ProtocolError(
            f"hello: got {raw[:4]!r}, expected {_MAGIC!r}; the peer does not speak hwrun's protocol{hint}"
        )
    own_nonce = secrets.token_bytes(32)
    # Sent before the version is judged, so that an unlike peer can name both versions as well.
    _send(connection, _HELLO.pack(_MAGIC, VERSION, 0, own_nonce), deadline_s)
    purpose_number, peer_nonce = _read_hello(raw)
    try:
        purpose = Purpose(purpose_number)
    except ValueError:
        raise ProtocolError(f"hello: got purpose {purpose_number}, expected one of {list(Purpose)}") from None
    proof = _receive(connection, _PROOF_BYTES, deadline_s)
    if not hmac.compare_digest(proof, _proof(token, b"dialler", purpose, peer_nonce, own_nonce)):
        _send(connection, _REFUSED + bytes(_PROOF_BYTES), deadline_s)
        raise AuthenticationError("token: the peer does not hold ours")
    _send(connection, _ACCEPTED + _proof(token, b"listener", purpose, peer_nonce, own_nonce), deadline_s)
    connection.settimeout(None)
    return purpose


def _proof(token: bytes, side: bytes, purpose: Purpose, dialler_nonce: bytes, listener_nonce: bytes) -> bytes:
    message = b"\0".join((b"hwrun", side, bytes([purpose]), dialler_nonce + listener_nonce))
    return hmac.digest(token, message, "sha256")


def _read_hello(raw: bytes) -> tuple[int, bytes]:
    magic, version, purpose, nonce = _HELLO.unpack(raw)
    if magic != _MAGIC:
        raise ProtocolError(f"hello: got {magic!r}, expected {_MAGIC!r}; the peer does not speak hwrun's protocol")
    if version != VERSION:
        raise ProtocolError(
            f"protocol version: the peer's is {version}, this one's {VERSION}; install the same hwrun on both"
        )
    return purpose, nonce


def _send(connection: Stream, data: bytes, deadline_s: float) -> None:
    try:
        connection.settimeout(max(0.001, deadline_s - time.monotonic()))
        connection.sendall(data)
    except TimeoutError as error:
        raise TimedOutError(f"authentication: nothing read within {HANDSHAKE_LIMIT_S:g} s") from error
    except OSError as error:
        raise PeerGoneError(f"authentication: the peer left ({error})") from error


def _receive(connection: Stream, count: int, deadline_s: float) -> bytes:
    received = b""
    while len(received) < count:
        try:
            connection.settimeout(max(0.001, deadline_s - time.monotonic()))
            piece = connection.recv(count - len(received))
        except TimeoutError as error:
            raise TimedOutError(
                f"authentication: got {len(received)} of {count} bytes within {HANDSHAKE_LIMIT_S:g} s"
            ) from error
        except OSError as error:
            raise PeerGoneError(f"authentication: the peer left ({error})") from error
        if not piece:
            hint = "" if received else "; it may expect TLS, or be no hwrun worker"
            raise PeerGoneError(f"authentication: the peer closed after {len(received)} of {count} bytes{hint}")
        received += piece
    return received
