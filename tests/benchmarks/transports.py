"""Messages of the paper's activation sizes over loopback: the TCP backend beside what else there is, in one run.

Every transport has a far end in a process of its own, on another core where there is one. Rounds go through all
transports in turn, so that drift meets each alike. A message is timed from before it is sent until one byte of answer
is here; goodput is its bytes over the median of that. One message at a time, since an answer is the only proof that a
message is whole at its far end, where it has become what its transport hands over: a tensor (ours, rpc, pickle), or
bytes. All far ends have a worker's allocator, so that no transport pays for memory that it could have kept.

The bare pair has our sockets' settings, so it says what frames cost; a second one and the others have the host's, its
congestion control above all, since that is what they run with.
"""

from __future__ import annotations

import contextlib
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
from dataclasses import dataclass
from pathlib import Path

import torch

from hwrun.backends.tcp import TcpOutlet
from hwrun.steady import pin_to_cores, steady_environment, usable_cores
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.frames import Kind
from tests.benchmarks.transport_peer import ANSWER, LENGTH, join_rpc, set_up, take

# Activations of batch 8 in the paper's models, MB.
SIZES_BYTES = (250_000, 2_400_000, 12_800_000, 102_760_448)
# Ours over bare, at least.
BARE_BARS = {2_400_000: 0.9, 12_800_000: 0.9, 102_760_448: 0.85}
# Ours over PyTorch RPC, at least.
RPC_BARS = {2_400_000: 2.0, 12_800_000: 2.0}
ECHO_BAR = 1.5
_ROUNDS = {250_000: 20, 2_400_000: 15, 12_800_000: 10, 102_760_448: 5}
_IN_A_ROW = {250_000: 6, 2_400_000: 5, 12_800_000: 4, 102_760_448: 2}
_ECHOES = 400
Send = Callable[[torch.Tensor], None]


@dataclass(frozen=True)
class Transports:
    """Median seconds of a message, by size and transport; of a small one there and back, by transport."""

    median_s: dict[int, dict[str, float]]
    echo_s: dict[str, float]

    @property
    def missed(self) -> list[str]:
        """Bars that were missed, each as a sentence."""
        found = []
        for other, bars in (("bare", BARE_BARS), ("rpc", RPC_BARS)):
            for size, bar in bars.items():
                ratio = self.median_s[size][other] / self.median_s[size]["ours"]
                if ratio < bar:
                    found.append(f"{size / 1e6:g} MB: {ratio:.2f}× the goodput of {other}, bar {bar:g}×")
        if (ratio := self.echo_s["frames"] / self.echo_s["echo"]) > ECHO_BAR:
            found.append(f"small round trip: {ratio:.2f}× a bare echo, bar {ECHO_BAR:g}×")
        return found

    @property
    def met(self) -> bool:
        """Whether every bar is."""
        return not self.missed

    def __str__(self) -> str:
        names = list(self.median_s[SIZES_BYTES[0]])
        lines = ["transports over loopback, ms a message (goodput over bare's):"]
        lines.append("    " + "payload".rjust(9) + "".join(name.rjust(18) for name in names))
        for size, medians in self.median_s.items():
            cells = (f"{medians[n] * 1e3:.3g} ({medians['bare'] / medians[n]:.2f})".rjust(18) for n in names)
            lines.append("    " + f"{size / 1e6:g} MB".rjust(9) + "".join(cells))
        ratio = self.echo_s["frames"] / self.echo_s["echo"]
        lines.append(
            f"    small message there and back: frames {self.echo_s['frames'] * 1e6:.1f} µs, bare echo"
            f" {self.echo_s['echo'] * 1e6:.1f} µs: {ratio:.2f}×"
        )
        lines.append("    MISSED: " + "; ".join(self.missed) if self.missed else "    all bars met")
        return "\n".join(lines)


def transports() -> Transports:
    """Measure them all."""
    cores = usable_cores()
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if len(cores) > 1:
            pin_to_cores([cores[0]])
            stack.callback(os.sched_setaffinity, 0, cores)
        senders: dict[str, Send] = {
            "ours": stack.enter_context(_ours()),
            "bare": stack.enter_context(_bare("bare")),
            "bare, host's": stack.enter_context(_bare("bare, host's")),
            "rpc": stack.enter_context(_rpc()),
            "zeromq": stack.enter_context(_zeromq()),
            "pickle": stack.enter_context(_pickled()),
        }
        order = random.Random(0)
        medians: dict[int, dict[str, float]] = {}
        for size in SIZES_BYTES:
            tensor = torch.randn(size // 4)
            times_s: dict[str, list[float]] = {name: [] for name in senders}
            for number in range(1 + _ROUNDS[size]):
                # In an order of its own each round, a few in a row, as a pipeline sends them, of which the first is not
                # counted: the far end before may still be freeing what it received, on the same core.
                for name, send in order.sample(list(senders.items()), len(senders)):
                    for place in range(1 + _IN_A_ROW[size]):
                        start_s = time.perf_counter()
                        send(tensor)
                        if number >= 1 and place >= 1:
                            times_s[name].append(time.perf_counter() - start_s)
            medians[size] = {name: statistics.median(times) for name, times in times_s.items()}
        echoers = {"echo": stack.enter_context(_echo()), "frames": stack.enter_context(_frames())}
        echoes_s: dict[str, list[float]] = {name: [] for name in echoers}
        for number in range(_ECHOES):
            for name, echo in echoers.items():
                start_s = time.perf_counter()
                echo()
                if number >= _ECHOES // 10:
                    echoes_s[name].append(time.perf_counter() - start_s)
    return Transports(medians, {name: statistics.median(times) for name, times in echoes_s.items()})


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
        [sys.executable, "-m", "tests.benchmarks.transport_peer", kind, address, "-1"],
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
    print(transports())
