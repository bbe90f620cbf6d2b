"""One process's share of the transport benchmark: rounds through all transports, raw times as JSON on stdout.

Every transport has a far end in a process of its own, on another core where there is one: stages have a core each, and
only so can one send while the next receives. Rounds go through all transports in turn, so that drift meets each alike.
A message is timed from before it is sent until one byte of answer is here. One message at a time, since an answer is
the only proof that a message is whole at its far end, where it has become what its transport hands over: a tensor
(ours, rpc, pickle), or bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from hwrun.backends.tcp import TcpOutlet
from hwrun.machine.steady import pin_to_cores, steady_environment, usable_cores
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.frames import Kind
from tests.benchmarks.transport_peer import ANSWER, LENGTH, join_rpc, set_up, take

# Activations of batch 8 in the paper's models, and how many rounds of how many in a row.
_ROUNDS = {250_000: (12, 6), 2_400_000: (10, 5), 12_800_000: (6, 4), 102_760_448: (4, 2)}
SIZES_BYTES = tuple(_ROUNDS)
_ECHOES = 300
# Asked before this process keeps to one of them, which what it starts inherits.
_CORES = usable_cores()
Send = Callable[[torch.Tensor], None]


def rounds_s() -> tuple[dict[int, dict[str, list[float]]], dict[str, list[float]]]:
    """Seconds of each message, by size and transport; of each small one there and back, by what echoes it."""
    torch.set_num_threads(1)
    pin_to_cores([_CORES[0]])
    with contextlib.ExitStack() as stack:
        senders: dict[str, Send] = {
            "ours": stack.enter_context(_ours()),
            "bare": stack.enter_context(_bare("bare")),
            "bare, host's": stack.enter_context(_bare("bare, host's")),
            "rpc": stack.enter_context(_rpc()),
            "zeromq": stack.enter_context(_zeromq()),
            "pickle": stack.enter_context(_pickled()),
        }
        order = random.Random(os.getpid())
        messages_s = {size: _messages_s(senders, size, order) for size in SIZES_BYTES}
        echoers = {"echo": stack.enter_context(_echo()), "frames": stack.enter_context(_frames())}
        echoes_s: dict[str, list[float]] = {name: [] for name in echoers}
        for number in range(_ECHOES):
            for name, echo in echoers.items():
                start_s = time.perf_counter()
                echo()
                if number >= _ECHOES // 10:
                    echoes_s[name].append(time.perf_counter() - start_s)
    return messages_s, echoes_s


def _messages_s(senders: dict[str, Send], size_bytes: int, order: random.Random) -> dict[str, list[float]]:
    rounds, in_a_row = _ROUNDS[size_bytes]
    tensor = torch.randn(size_bytes // 4)
    times_s: dict[str, list[float]] = {name: [] for name in senders}
    for number in range(1 + rounds):
        # In an order of its own each round, a few in a row, as a pipeline sends them, of which the first is not
        # counted: the far end before may still be freeing what it received, on the same core.
        for name, send in order.sample(list(senders.items()), len(senders)):
            if name == "pickle" and number % 2:
                continue  # ten times as slow as the rest, and for the record only
            for place in range(1 + in_a_row):
                start_s = time.perf_counter()
                send(tensor)
                if number >= 1 and place >= 1:
                    times_s[name].append(time.perf_counter() - start_s)
    return times_s


def bare_s(size_bytes: int) -> float:
    """Median seconds of a bare message of that size."""
    tensor = torch.randn(size_bytes // 4)
    times_s: list[float] = []
    with _bare("bare") as send:
        for _ in range(30):
            start_s = time.perf_counter()
            send(tensor)
            times_s.append(time.perf_counter() - start_s)
    return statistics.median(times_s[2:])


@contextlib.contextmanager
def _far(kind: str, address: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.transport_peer", kind, address, str(_CORES[-1])],
        env=os.environ | steady_environment(1),
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _stream(kind: str) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server, _far(kind, f"127.0.0.1:{server.getsockname()[1]}"):
        stream = set_up(kind, server.accept()[0])
        with stream:
            yield stream


def _answered(stream: socket.socket) -> None:
    assert stream.recv(1) == ANSWER


@contextlib.contextmanager
def _ours() -> Iterator[Send]:
    with _stream("ours") as stream:
        outlet = TcpOutlet(Connection(stream, "far"))

        def send(tensor: torch.Tensor) -> None:
            outlet.send(1, (tensor,))
            _answered(stream)

        yield send


@contextlib.contextmanager
def _bare(kind: str) -> Iterator[Send]:
    with _stream(kind) as stream:

        def send(tensor: torch.Tensor) -> None:
            data = tensor.numpy().data.cast("B")
            stream.sendall(LENGTH.pack(data.nbytes))
            stream.sendall(data)
            _answered(stream)

        yield send


@contextlib.contextmanager
def _pickled() -> Iterator[Send]:
    with _stream("pickle") as stream:

        def send(tensor: torch.Tensor) -> None:
            data = pickle.dumps(tensor)
            stream.sendall(LENGTH.pack(len(data)))
            stream.sendall(data)
            _answered(stream)

        yield send


@contextlib.contextmanager
def _zeromq() -> Iterator[Send]:
    import zmq

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    requester = context.socket(zmq.REQ)
    port = requester.bind_to_random_port("tcp://127.0.0.1")

    def send(tensor: torch.Tensor) -> None:
        requester.send(tensor.numpy().data, copy=False)
        requester.recv()

    with _far("zeromq", f"tcp://127.0.0.1:{port}"):
        yield send
    requester.close(0)
    context.term()


@contextlib.contextmanager
def _rpc() -> Iterator[Send]:
    from torch.distributed import rpc

    with tempfile.TemporaryDirectory() as folder:
        rendezvous = Path(folder) / "rpc"
        with _far("rpc", str(rendezvous)):
            join_rpc("near", 0, rendezvous)
            yield lambda tensor: rpc.rpc_sync("far", take, args=(tensor,))
            rpc.shutdown(graceful=False)


@contextlib.contextmanager
def _echo() -> Iterator[Callable[[], None]]:
    message = bytes(24)  # as long as an empty frame
    with _stream("echo") as stream:

        def echo() -> None:
            stream.sendall(message)
            assert len(stream.recv(4096)) == len(message)

        yield echo


@contextlib.contextmanager
def _frames() -> Iterator[Callable[[], None]]:
    pool = BufferPool()
    with _stream("frames") as stream:
        connection = Connection(stream, "far")

        def echo() -> None:
            connection.send(Kind.PING, 7)
            connection.receive(pool, 0)

        yield echo


if __name__ == "__main__":
    messages, echoes = rounds_s()
    print(json.dumps([messages, echoes]))
