"""Opening a connection: TCP, then TLS where it is used, then the proof of the token; only then are frames read.

Connections within a host over unix sockets go without TLS: the kernel keeps others out of them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from hwrun.errors import HwrunError
from hwrun.wire.address import Address
from hwrun.wire.authentication import HANDSHAKE_LIMIT_S, Purpose, admit_dialler, prove_to_listener
from hwrun.wire.sockets import dial, prepared
from hwrun.wire.tls import Stream, Tls


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a peer has to show, and what this end shows: the shared token, and a TLS identity where TLS is used.

    An empty token is for what only this host can reach (the caller sees to it). Never printed.
    """

    token: bytes = b""
    tls: Tls | None = None


def dial_peer(address: Address, credentials: Credentials, purpose: Purpose) -> Stream:
    """A connection to the worker or orchestrator at `address`, which has proved the token, as has this end.

    Raises
    ------
    AuthenticationError, CertificateError : the tokens differ, or a certificate is not accepted.
    ProtocolError, PeerGoneError, TimedOutError : nobody there, not of this protocol, or silent.
    """
    stream: Stream = dial(address)
    try:
        if credentials.tls is not None and isinstance(stream, socket.socket) and not address.path:
            stream = credentials.tls.dialled(stream, address.host, HANDSHAKE_LIMIT_S)
        prove_to_listener(stream, credentials.token, purpose)
    except HwrunError as error:
        stream.close()
        # Which of several peers it was: nothing in a handshake names one.
        raise type(error)(f"{address}: {error}") from error
    except BaseException:
        stream.close()
        raise
    return stream


def admit_peer(stream: socket.socket, credentials: Credentials) -> tuple[Stream, Purpose]:
    """The connection that was accepted, once its dialler has proved the token, and what it is for.

    The caller closes `stream` where this raises, as `dial_peer` may.
    """
    prepared(stream)
    admitted: Stream = stream
    if credentials.tls is not None and stream.family != socket.AF_UNIX:
        admitted = credentials.tls.accepted(stream, HANDSHAKE_LIMIT_S)
    return admitted, admit_dialler(admitted, credentials.token)
