"""The receiving end of one transport, a process of its own: takes each message whole and answers it with one byte.

The answer goes out as soon as the message is what its transport hands over, and its memory is given back, or freed,
after it: a stage does so once it has computed. torch is loaded where a transport hands over tensors.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hwrun.errors import PeerGoneError
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.frames import Kind
from hwrun.wire.sockets import prepared

if TYPE_CHECKING:
    import torch

LIMIT_BYTES = 256 * 2**20
LENGTH = struct.Struct(">Q")
ANSWER = b"!"
_FRAMED = ("ours", "frames")
_AS_OURS = (*_FRAMED, "bare", "echo")


def set_up(kind: str, stream: socket.socket) -> socket.socket:
    """The socket as that transport has it.

    Ours is as in a worker. What it is held against, bare and echo, gets the same, congestion control above all: the
    difference is then what frames cost. The rest have the host's settings, as their users would, and no Nagle.
    """
    if kind in _AS_OURS:
        prepared(stream)
        if kind not in _FRAMED:  # they have no use for waits that end now and then
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(struct.calcsize("@ll")))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def bare(stream: socket.socket) -> NoReturn:
    """recv_into a buffer of the same pool as ours, used again; each message begins with its length."""
    pool = BufferPool(kept=4)
    head = memoryview(bytearray(LENGTH.size))
    while True:
        fill(stream, head)
        (size,) = LENGTH.unpack(head)
        buffer = pool.take(size)
        fill(stream, buffer)
        stream.sendall(ANSWER)
        pool.give(buffer)


def fill(stream: socket.socket, view: memoryview) -> None:
    while view.nbytes:
        count = stream.recv_into(view)
        if count == 0:
            sys.exit(0)
        view = view[count:]


def ours(stream: socket.socket) -> NoReturn:
    """The TCP backend's inlet."""
    from hwrun.backends.tcp import TcpInlet

    inlet = TcpInlet(Connection(stream, "bench"), 4, LIMIT_BYTES)
    with contextlib.suppress(PeerGoneError):
        while True:
            arrival = inlet.receive()
            stream.sendall(ANSWER)
            arrival.release()
    sys.exit(0)


def echo(stream: socket.socket) -> NoReturn:
    """Every byte that came, as it came."""
    while data := stream.recv(4096):
        stream.sendall(data)
    sys.exit(0)


def frames(stream: socket.socket) -> NoReturn:
    """An empty frame for an empty frame."""
    connection, pool = Connection(stream, "bench"), BufferPool()
    with contextlib.suppress(PeerGoneError):
        while True:
            message = connection.receive(pool, 0)
            connection.send(Kind.PING, message.header.sequence)
    sys.exit(0)


def pickled(stream: socket.socket) -> NoReturn:
    """The paper's way: the length apart, `data += chunk`, unpickled. Unsafe anywhere but here."""
    while True:
        head = stream.recv(LENGTH.size)
        if not head:
            sys.exit(0)
        (size,) = LENGTH.unpack(head)
        data = b""
        while len(data) < size:
            chunk = stream.recv(size - len(data))
            data += chunk
        tensor = pickle.loads(data)
        stream.sendall(ANSWER)
        del tensor


def zeromq(_: socket.socket, endpoint: str) -> NoReturn:
    """A REP socket that takes messages without copying them."""
    import zmq

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    replier = context.socket(zmq.REP)
    replier.connect(endpoint)
    while True:
        frame = replier.recv(copy=False)
        replier.send(ANSWER)
        del frame


def take(tensor: torch.Tensor) -> None:
    """What the far end of a remote call does with a tensor."""


def join_rpc(name: str, rank: int, rendezvous: Path) -> None:
    """Be one of two RPC agents, over plain TCP of the loopback interface."""
    from torch.distributed import rpc

    os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"file://{rendezvous}", rpc_timeout=60, _transports=["uv"], _channels=["basic"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


STREAMS = {"bare": bare, "bare, host's": bare, "ours": ours, "echo": echo, "frames": frames, "pickle": pickled}

if __name__ == "__main__":
    kind, address, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})  # whatever core the near end, which started this, keeps to
    if kind == "rpc":
        join_rpc("far", 1, Path(address))
        sys.stdin.read()  # until the near end is done
        os._exit(0)
    if kind == "zeromq":
        zeromq(socket.socket(), address)
    host, _, port = address.rpartition(":")
    STREAMS[kind](set_up(kind, socket.create_connection((host, int(port)))))
