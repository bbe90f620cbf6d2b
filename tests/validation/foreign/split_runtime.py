"""A stand-alone split runtime of two processes, as a student would write one: pickle, one blocking thread a side.

The first process has all batches from the start. For each it computes (waits), pickles, and writes length and bytes to
a socket, blocking. The second reads, unpickles and computes (waits). Imports the standard library alone.

    python split_runtime.py run '{"batches": 8, …}'      how long it takes, as JSON
    python split_runtime.py probe '{…}'                  what its messages, buffers and link cost, each measured alone
"""

from __future__ import annotations

import fcntl
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

LENGTH = struct.Struct(">Q")
# TCP does not pace its first ten segments, which would be whole messages here: they are these, of a byte each.
GREETINGS = 16
# As on Ethernet. The loopback's own are 64 kB, of which TCP paces whole pairs: bursts of half a message.
SEGMENT = 1448
SIOCOUTQ = 0x5411  # linux/sockios.h: bytes written that the other side has not acknowledged
SO_MAX_PACING_RATE = 47  # asm-generic/socket.h: TCP itself then sends no faster, whatever the interface is


def payload(settings: dict) -> bytes:
    return random.Random(0).randbytes(settings["payload_bytes"])


def encoded(data: bytes) -> bytes:
    # The oldest binary protocol turns bytes into text: slow and half as large again, but it works everywhere.
    return pickle.dumps(data, protocol=2)


def compute(seconds: float) -> None:
    """Take that long; sleepers wake late, so the last bit is spun."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0.0005:
        time.sleep(left - 0.0005)
    while time.monotonic() < end:
        pass


def read_exactly(stream: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = stream.recv(min(65536, count - len(data)))
        if not chunk:
            raise ConnectionError("the other side has gone")
        data += chunk
    return bytes(data)


def read_message(stream: socket.socket) -> bytes:
    return read_exactly(stream, *LENGTH.unpack(read_exactly(stream, LENGTH.size)))


def second(settings: dict, port: int) -> None:
    """The second process: what it does is said by `settings`."""
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings["receive_buffer"])  # before connecting, or never
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    stream.connect(("127.0.0.1", port))
    read_exactly(stream, GREETINGS)
    stream.sendall(b".")
    if settings["job"] == "buffers":
        time.sleep(settings["wait_s"])
        held = struct.unpack("i", fcntl.ioctl(stream.fileno(), termios.FIONREAD, b"\0" * 4))[0]
        stream.sendall(LENGTH.pack(held))
        return
    done = []
    for _ in range(settings["batches"]):
        message = read_message(stream)
        if settings["job"] == "run":
            pickle.loads(message)
            compute(settings["second_s"])
        done.append(time.monotonic())
    answer = json.dumps(done).encode()
    stream.sendall(LENGTH.pack(len(answer)) + answer)


def connected(settings: dict) -> tuple[socket.socket, subprocess.Popen]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings["send_buffer"])
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        port = listener.getsockname()[1]
        child = subprocess.Popen([sys.executable, __file__, "second", json.dumps(settings), str(port)])
        listener.settimeout(30)
        stream, _ = listener.accept()
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, int(settings["rate_bps"] / 8))
    for _ in range(GREETINGS):
        stream.send(b".")
        time.sleep(0.001)
    read_exactly(stream, 1)
    return stream, child


def run(settings: dict) -> dict:
    data = payload(settings)
    stream, child = connected({**settings, "job": "run"})
    started = []
    begin = time.monotonic()
    for _ in range(settings["batches"]):
        started.append(time.monotonic())
        compute(settings["first_s"])
        message = encoded(data)
        stream.sendall(LENGTH.pack(len(message)) + message)
    done = json.loads(read_message(stream))
    child.wait(30)
    return {
        "makespan_s": done[-1] - begin,
        "latency_s": statistics.fmean(end - begin for end in done),
        "latency_from_start_s": statistics.fmean(end - start for start, end in zip(started, done, strict=True)),
    }


def probe(settings: dict) -> dict:
    """Each thing alone: what pickling takes either way, how much sockets hold, how fast the link is."""
    data = payload(settings)
    dumped, loaded = [], []
    for _ in range(7):
        before = time.perf_counter()
        message = encoded(data)
        between = time.perf_counter()
        pickle.loads(message)
        dumped.append(between - before)
        loaded.append(time.perf_counter() - between)
    stream, child = connected({**settings, "job": "buffers", "wait_s": 0.6})
    stream.setblocking(False)
    end = time.monotonic() + 0.4
    block = b"x" * 65536
    while time.monotonic() < end:
        try:
            stream.send(block)
        except BlockingIOError:
            time.sleep(0.01)
    waiting = struct.unpack("i", fcntl.ioctl(stream.fileno(), SIOCOUTQ, b"\0" * 4))[0]
    stream.setblocking(True)
    (held,) = LENGTH.unpack(read_exactly(stream, LENGTH.size))
    child.wait(30)
    count = 4
    stream, child = connected({**settings, "job": "rate", "batches": count})
    for _ in range(count):
        stream.sendall(LENGTH.pack(len(message)) + message)
    done = json.loads(read_message(stream))
    child.wait(30)
    return {
        "message_bytes": LENGTH.size + len(message),
        "dumps_s": statistics.median(dumped),
        "loads_s": statistics.median(loaded),
        "send_buffer_bytes": waiting,
        "receive_buffer_bytes": held,
        "rate_bps": 8 * (count - 1) * (LENGTH.size + len(message)) / (done[-1] - done[0]),
    }


def main() -> None:
    job, settings = sys.argv[1], json.loads(sys.argv[2])
    if job == "second":
        second(settings, int(sys.argv[3]))
    else:
        print(json.dumps({"run": run, "probe": probe}[job](settings)))


if __name__ == "__main__":
    main()
