"""Data connections: how a stage dials the next one, and how the one dialled makes sure that it is meant."""

from __future__ import annotations

import socket

from hwrun import control
from hwrun.authentication import Purpose, admit_dialler, prove_to_listener
from hwrun.control import receive_control, send_control
from hwrun.errors import ProtocolError, TimedOutError
from hwrun.tcp import Address, BufferPool, Connection, dial, prepared


def dial_data(address: Address, token: bytes, pipeline: str, position: int) -> Connection:
    """A data connection to stage `position` of a pipeline, accepted by it.

    Raises
    ------
    AuthenticationError, PeerGoneError, TimedOutError, RequestFailedError : says which peer and why.
    """
    connection = Connection(dial(address), str(address))
    try:
        prove_to_listener(connection.socket, token, Purpose.DATA)
        send_control(connection, control.DataHello(pipeline=pipeline, position=position))
        receive_control(connection, BufferPool(), control.Done)
    except BaseException:
        connection.close()
        raise
    return connection


def admit_data(listener: socket.socket, token: bytes, pipeline: str, position: int, limit_s: float) -> Connection:
    """The connection of the stage before `position`, which is expected to dial `listener` next.

    Raises
    ------
    TimedOutError : it did not within `limit_s`.
    """
    listener.settimeout(limit_s)
    try:
        stream, _ = listener.accept()
    except TimeoutError as error:
        raise TimedOutError(f"results: the last stage did not dial within {limit_s:g} s") from error
    connection = Connection(stream, "the last stage")
    try:
        purpose = admit_dialler(prepared(stream), token)
        if purpose is not Purpose.DATA:
            raise ProtocolError(f"results: got purpose {purpose.name}, expected DATA")
        hello = receive_control(connection, BufferPool(), control.DataHello)
        if (hello.pipeline, hello.position) != (pipeline, position):
            raise ProtocolError(
                f"results: got stage {hello.position} of {hello.pipeline}, expected {position} of {pipeline}"
            )
        send_control(connection, control.Done())
    except BaseException:
        connection.close()
        raise
    return connection
