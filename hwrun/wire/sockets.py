"""Sockets that listen and dial, and how those that are connected are set: Nagle off, a dead peer noticed.

Socket buffer sizes are left to the kernel's own tuning.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
import struct
from pathlib import Path

from hwrun.errors import BadUsageError, PeerGoneError, TimedOutError
from hwrun.wire.address import Address
from hwrun.wire.tls import Stream

_DIAL_LIMIT_S = 15.0
# Seconds of silence before the first question (TCP_KEEPALIVE on macOS), seconds between questions, and how many go
# unanswered (tcp(7)).
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
# Within one machine nothing is congested, and what paces its segments by a rate that it has to guess (BBR, the default
# of some kernels) only holds bytes back: between two virtual cores 12.8 and 102.8 MB took half as long again. Where
# cubic is not to be had the host's own stays. Links between machines, or with a rate of their own, keep what their
# route says.
_LOOPBACK_CONGESTION_CONTROL = b"cubic"
# How long a peer may leave unread, or unacknowledged, what it is sent over a control connection.
_STUCK_S = 60
# How often a thread that waits for bytes looks at the clock.
_WAKE_S = 5


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
        raise PeerGoneError(
            f"dial: {address}: {error.strerror or error}, expected a worker that listens there"
        ) from error
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
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_CONGESTION") and is_loopback(connection):
            with contextlib.suppress(OSError):  # not loaded, or not permitted
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _LOOPBACK_CONGESTION_CONTROL)
    return connection


def bound_sends(connection: Stream) -> None:
    """Let sending fail once the peer has taken nothing for a minute, for connections whose peer reads all the time.

    A peer that has vanished is asked for nothing (`prepared`) while it owes an acknowledgement, and the kernel alone
    would wait a quarter of an hour for that (tcp_retries2). A stage that computes for minutes reads nothing meanwhile,
    so this is not for data.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _STUCK_S, 0))
    if hasattr(socket, "TCP_USER_TIMEOUT") and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STUCK_S * 1000)


def is_loopback(connection: socket.socket) -> bool:
    """Whether it is a TCP connection over this host's loopback interface."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        return ipaddress.ip_address(connection.getpeername()[0]).is_loopback
    except OSError:  # the peer is gone already, which the first call to send or receive will say
        return False
