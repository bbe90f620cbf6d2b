"""Batches as frames over a stream socket: no copy but the kernel's, buffers received into again and again."""

from __future__ import annotations

import collections
import contextlib
import socket
from collections.abc import Sequence

import torch

from hwrun.backends.contract import Arrival
from hwrun.errors import PeerGoneError, ProtocolError
from hwrun.records import Scalar
from hwrun.testbed import Route
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials
from hwrun.wire.connection import Connection
from hwrun.wire.data_path import admit_data, dial_data
from hwrun.wire.frames import Kind, TensorSpec
from hwrun.wire.tcp_info import buffer_bytes, tcp_info
from hwrun.wire.tensors import Room, outgoing

# How long the last stage may take to dial.
CONNECT_LIMIT_S = 30.0
_RESULTS_KEPT = 8


class TcpInlet:
    """Batches that arrive over a connection.

    Parameters
    ----------
    kept : how many rooms that were released wait to be used again, at most.
    limit_bytes : the longest payload agreed.
    """

    def __init__(self, connection: Connection, kept: int, limit_bytes: int) -> None:
        self._connection = connection
        self._limit_bytes = limit_bytes
        self._last: tuple[TensorSpec, ...] = ()
        # Any thread may release a room while one takes them.
        self._released: collections.deque[Room] = collections.deque(maxlen=kept)

    def receive(self) -> Arrival:
        """Wait for the next frame, which must be a batch."""
        # A batch is like the one before it, so its room and tensors are ready before there is anything to wait for: a
        # thread that has just been woken finds torch and Python out of its caches, and is slow at both.
        room = self._room(self._last)
        tensors = room.tensors()
        message = self._connection.begin(self._limit_bytes)
        if message.header.kind is not Kind.BATCH:
            raise ProtocolError(f"data: got a {message.header.kind.name} frame, expected BATCH")
        if message.specs != room.specs:
            self._last = message.specs
            room = self._room(message.specs)
            tensors = room.tensors()
        self._connection.complete(message, room.buffer)
        return Arrival(
            message.header.sequence,
            tensors,
            message.start_s,
            message.end_s,
            release=lambda: self._released.append(room),
        )

    def _room(self, specs: tuple[TensorSpec, ...]) -> Room:
        """Room for such tensors: what was released, or a new one. Rooms for others are dropped."""
        while self._released:
            room = self._released.pop()
            if room.specs == specs:
                return room
        return Room(specs)

    @property
    def buffer_bytes(self) -> int | None:
        """SO_RCVBUF, None of a unix socket."""
        return buffer_bytes(self._connection, socket.SO_RCVBUF)

    def shut_down(self) -> None:
        """End the connection in both directions."""
        self._connection.shut_down()

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()


class TcpOutlet:
    """Batches that leave over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, sequence: int, tensors: Sequence[torch.Tensor]) -> None:
        """Send a frame; returns when its last byte is the kernel's."""
        specs, payload = outgoing(tensors)
        self._connection.send(Kind.BATCH, sequence, specs=specs, payload=payload)

    def tcp_info(self) -> dict[str, Scalar]:
        """TCP_INFO, empty of a unix socket."""
        return tcp_info(self._connection.socket)

    @property
    def buffer_bytes(self) -> int | None:
        """SO_SNDBUF, None of a unix socket."""
        return buffer_bytes(self._connection, socket.SO_SNDBUF)

    def shut_down(self) -> None:
        """End the connection in both directions."""
        self._connection.shut_down()

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()


def dial_outlet(address: str, credentials: Credentials, pipeline: str, position: int) -> TcpOutlet:
    """The way to stage `position` of a pipeline, accepted by it.

    Raises
    ------
    AuthenticationError, PeerGoneError, TimedOutError, RequestFailedError : says which peer and why.
    """
    return TcpOutlet(dial_data(Address.parse(address), credentials, pipeline, position))


class TcpLanding:
    """A listener that the last stage dials."""

    def __init__(
        self,
        listener: socket.socket,
        address: Address,
        credentials: Credentials,
        *,
        pipeline: str,
        position: int,
        limit_bytes: int,
    ) -> None:
        self._listener = listener
        self.address = str(address)
        self._credentials = credentials
        self._pipeline, self._position = pipeline, position
        self._limit_bytes = limit_bytes
        self._closed = False

    def accept(self) -> TcpInlet:
        """Wait for the last stage, which has to prove who it is."""
        try:
            connection = admit_data(
                self._listener, self._credentials, self._pipeline, self._position, limit_s=CONNECT_LIMIT_S
            )
        except OSError as error:
            if self._closed:
                raise PeerGoneError("results: the pipeline is closed") from error
            raise
        return TcpInlet(connection, _RESULTS_KEPT, self._limit_bytes)

    def close(self) -> None:
        """Shut the listener, which wakes the accepting thread."""
        self._closed = True
        with contextlib.suppress(OSError):  # nobody was waiting to be accepted
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class SocketEnds:
    """A pipeline's ends over sockets along a route."""

    def __init__(self, route: Route, credentials: Credentials) -> None:
        self._route = route
        self._credentials = credentials

    def stage_address(self, position: int) -> str:
        """A host and a port, or a unix socket's path."""
        return str(self._route.stage_address(position))

    def results(self, pipeline: str, position: int, limit_bytes: int) -> TcpLanding:
        """A listener at the sink."""
        listener, address = self._route.listen_for_results()
        return TcpLanding(
            listener, address, self._credentials, pipeline=pipeline, position=position, limit_bytes=limit_bytes
        )

    def inputs(self, pipeline: str) -> TcpOutlet:
        """A connection from the sink to the first stage."""
        with self._route.at_sink():
            return dial_outlet(self.stage_address(0), self._credentials, pipeline, 0)

    def check(self) -> None:
        """Raise HwrunError where the route is gone."""
        self._route.check()
