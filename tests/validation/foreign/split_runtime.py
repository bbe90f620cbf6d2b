"""A stand-alone split runtime of two processes, as a student would write one: pickle, one blocking thread a side.

The first process has all batches from the start. For each it computes (waits), pickles floats, and writes the length
and then the bytes to a socket, blocking. The second collects chunks (`data += chunk`), unpickles and computes (waits).
Sockets are as they come, but for what `settings` say of their buffers. Imports the standard library alone.

    python split_runtime.py run '{"batches": 8, …}'      how long it takes, as JSON
    python split_runtime.py probe '{…}'                  what its messages, buffers and link cost, each measured alone
"""

from __future__ import annotations

import array
import fcntl
import io
import json
import pickle
import random
import socket
import statistics
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

LENGTH = struct.Struct(">Q")
CHUNK = 4096
# The link is TCP's pacing, which lets ten segments pass at once. They are these, of a byte each, or a burst would be as
# much earlier: half a message on a slow link.
GREETINGS = 16
# As on Ethernet. The loopback's own are 64 kB, of which TCP paces whole pairs: bursts of half a message.
SEGMENT = 1448
FILLING_S = 0.5
SIOCOUTQ = 0x5411  # linux/sockios.h: bytes written that the other side has not acknowledged
SO_MAX_PACING_RATE = 47  # asm-generic/socket.h: TCP itself then sends no faster, whatever the interface is


def activation(settings: dict) -> array.array:
    return array.array("f", random.Random(0).randbytes(settings["payload_bytes"]))


def compute(seconds: float) -> None:
    """Take that long; sleepers wake late, so the last bit is spun."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0.0005:
        time.sleep(left - 0.0005)
    while time.monotonic() < end:
        pass


def read_exactly(receive: Callable[[int], bytes], count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = receive(min(CHUNK, count - len(data)))
        if not chunk:
            raise ConnectionError("the other side has gone")
        data += chunk  # copies what there is, every time
    return data


def read_message(receive: Callable[[int], bytes]) -> bytes:
    return read_exactly(receive, *LENGTH.unpack(read_exactly(receive, LENGTH.size)))


def write_message(stream: socket.socket, message: bytes) -> None:
    stream.sendall(LENGTH.pack(len(message)))
    stream.sendall(message)


def second(settings: dict, port: int) -> None:
    """The second process: what it does is said by `settings`."""
    stream = socket.socket()
    if settings["receive_buffer"] is not None:  # before connecting, or never
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings["receive_buffer"])
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    stream.connect(("127.0.0.1", port))
    read_exactly(stream.recv, GREETINGS)
    stream.sendall(b".")
    done = []
    for _ in range(settings["batches"]):
        if settings["job"] == "rate":
            stream.recv(settings["message_bytes"], socket.MSG_WAITALL)
        else:
            pickle.loads(read_message(stream.recv))
            compute(settings["second_s"])
        done.append(time.monotonic())
    if settings["job"] == "buffers":
        time.sleep(settings["second_s"] + FILLING_S)
        held = struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.FIONREAD, b"\0" * 4))[0]
        write_message(stream, LENGTH.pack(held))
        sys.stdin.read()  # closed with bytes unread, the connection would be reset and the answer lost
        return
    write_message(stream, json.dumps(done).encode())


def connected(settings: dict) -> tuple[socket.socket, subprocess.Popen]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if settings["send_buffer"] is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings["send_buffer"])
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        port = listener.getsockname()[1]
        child = subprocess.Popen(
            [sys.executable, __file__, "second", json.dumps(settings), str(port)], stdin=subprocess.PIPE
        )
        listener.settimeout(30)
        stream, _ = listener.accept()
    stream.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, int(settings["rate_bps"] / 8))
    for _ in range(GREETINGS):
        stream.send(b".")
        time.sleep(0.001)
    read_exactly(stream.recv, 1)
    return stream, child


def send_all(settings: dict, stream: socket.socket) -> list[float]:
    """What the first process does; when it began each batch."""
    data, started = activation(settings), []
    for _ in range(settings["batches"]):
        started.append(time.monotonic())
        compute(settings["first_s"])
        write_message(stream, pickle.dumps(data))
    return started


def run(settings: dict) -> dict:
    stream, child = connected({**settings, "job": "run"})
    begin = time.monotonic()
    started = send_all(settings, stream)
    done = json.loads(read_message(stream.recv))
    child.communicate(timeout=30)
    return {
        "makespan_s": done[-1] - begin,
        "latency_s": statistics.fmean(end - begin for end in done),
        "latency_from_start_s": statistics.fmean(end - start for start, end in zip(started, done, strict=True)),
    }


def probe(settings: dict) -> dict:
    """Each thing alone: what writing and reading take of the hosts, how fast the link is, how much sockets hold."""
    data = activation(settings)
    dumped, loaded = [], []
    for _ in range(7):
        before = time.perf_counter()
        message = pickle.dumps(data)
        between = time.perf_counter()
        pickle.loads(read_exactly(io.BytesIO(message).read, len(message)))
        dumped.append(between - before)
        loaded.append(time.perf_counter() - between)
    message_bytes = LENGTH.size + len(message)
    return {
        "message_bytes": message_bytes,
        "dumps_s": statistics.median(dumped),
        "loads_s": statistics.median(loaded),
        "rate_bps": rate_bps({**settings, "job": "rate", "message_bytes": message_bytes}, message),
        **buffers({**settings, "job": "buffers", "batches": settings["batches"] // 2}),
    }


def rate_bps(settings: dict, message: bytes) -> float:
    """Of messages that are read at once, as many as of a run: each alone comes up to 30 % early or late."""
    stream, child = connected(settings)
    for _ in range(settings["batches"]):
        write_message(stream, message)
    done = json.loads(read_message(stream.recv))
    child.communicate(timeout=30)
    return 8 * (settings["batches"] - 1) * settings["message_bytes"] / (done[-1] - done[0])


def buffers(settings: dict) -> dict:
    """Those of sockets that have carried some batches, since kernels let them grow.

    The sender's is what the system says. The receiver's is what it holds when nothing is read.
    """
    stream, child = connected(settings)
    send_all(settings, stream)
    written = stream.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    while struct.unpack("i", fcntl.ioctl(stream.fileno(), SIOCOUTQ, b"\0" * 4))[0]:
        time.sleep(0.001)
    stream.setblocking(False)
    end = time.monotonic() + settings["second_s"] + FILLING_S
    block = b"x" * 65536
    while time.monotonic() < end:
        try:
            stream.send(block)
        except BlockingIOError:
            time.sleep(0.01)
    stream.setblocking(True)
    (held,) = LENGTH.unpack(read_message(stream.recv))
    child.communicate(timeout=30)
    return {"send_buffer_bytes": written, "receive_buffer_bytes": held}


def main() -> None:
    job, settings = sys.argv[1], json.loads(sys.argv[2])
    if job == "second":
        second(settings, int(sys.argv[3]))
    else:
        print(json.dumps({"run": run, "probe": probe}[job](settings)))


if __name__ == "__main__":
    main()
