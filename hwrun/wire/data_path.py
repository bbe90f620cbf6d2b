"""Data connections: how a stage dials the next one, and how the one dialled makes sure that it is meant."""

from __future__ import annotations

import socket
import time
from typing import TypeVar

from hwrun.errors import HwrunError, ProtocolError, TimedOutError
from hwrun.wire import control
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials, admit_peer, dial_peer
from hwrun.wire.authentication import HANDSHAKE_LIMIT_S, Purpose
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.control import receive_control, send_control

# The least that a listener waits for.
_MOMENT_S = 0.001
_Hello = TypeVar("_Hello", control.Hello, control.DataHello)


def dial_data(address: Address, credentials: Credentials, pipeline: str, position: int) -> Connection:
    """A data connection to stage `position` of a pipeline, accepted by it.

    Raises
    ------
    AuthenticationError, PeerGoneError, TimedOutError, RequestFailedError : says which peer and why.
    """
    connection = Connection(dial_peer(address, credentials, Purpose.DATA), str(address))
    try:
        connection.socket.settimeout(HANDSHAKE_LIMIT_S)
        send_control(connection, control.DataHello(pipeline=pipeline, position=position))
        receive_control(connection, BufferPool(), control.Done)
        connection.socket.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def receive_hello(connection: Connection, expected: type[_Hello]) -> _Hello:
    """The first message of a peer that has proved the token, who may not keep us waiting for it.

    Raises
    ------
    TimedOutError : it said nothing within HANDSHAKE_LIMIT_S.
    """
    connection.socket.settimeout(HANDSHAKE_LIMIT_S)
    hello = receive_control(connection, BufferPool(), expected)
    connection.socket.settimeout(None)
    return hello


def admit_data(
    listener: socket.socket, credentials: Credentials, pipeline: str, position: int, limit_s: float
) -> Connection:
    """The connection of the stage before `position`, which is expected to dial `listener`.

    Whoever else does, a port scanner say, is turned away, and the stage still waited for.

    Raises
    ------
    TimedOutError : it did not within `limit_s`; names the last that was turned away.
    """
    end_s = time.monotonic() + limit_s
    turned_away = ""
    while True:
        # At least a moment: one that has dialled already is always taken.
        listener.settimeout(max(_MOMENT_S, end_s - time.monotonic()))
        try:
            stream, _ = listener.accept()
        except TimeoutError as error:
            raise TimedOutError(f"results: the last stage did not dial within {limit_s:g} s{turned_away}") from error
        try:
            return _admitted(stream, credentials, pipeline, position)
        except (HwrunError, OSError) as error:
            turned_away = f"; another peer was turned away: {error}"


def _admitted(stream: socket.socket, credentials: Credentials, pipeline: str, position: int) -> Connection:
    try:
        admitted, purpose = admit_peer(stream, credentials)
    except BaseException:
        stream.close()
        raise
    connection = Connection(admitted, "the last stage")
    try:
        if purpose is not Purpose.DATA:
            raise ProtocolError(f"results: got purpose {purpose.name}, expected DATA")
        hello = receive_hello(connection, control.DataHello)
        if (hello.pipeline, hello.position) != (pipeline, position):
            raise ProtocolError(
                f"results: got stage {hello.position} of {hello.pipeline}, expected {position} of {pipeline}"
            )
        send_control(connection, control.Done())
    except BaseException:
        connection.close()
        raise
    return connection
