"""What a test has run inside a user-mode Linux kernel with a real netem: sets links, measures them, prints JSON.

It is no test by itself; `test_shaping_netem.py` boots the kernel with this as what it runs, and judges what is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from hwrun.local import wiring
from hwrun.local.namespaces import NetworkNamespace
from hwrun.shaping import kernel
from hwrun.shaping.lease import ShapingLease
from hwrun.shaping.setting import Path, Peer, Setting, egress_of
from hwrun.shaping.tc_lines import lines

NEAR, FAR = "10.97.0.1", "10.97.0.2"
DATA_PORT, CONTROL_PORT = 7071, 7070


def two_hosts() -> tuple[NetworkNamespace, NetworkNamespace]:
    """Two namespaces with a veth pair between them."""
    near, far = NetworkNamespace.create(), NetworkNamespace.create()
    macs = {NEAR: "02:00:0a:61:00:01", FAR: "02:00:0a:61:00:02"}
    wiring.make_pair(near, "eth0", macs[NEAR], far, "eth0", macs[FAR])
    for namespace, here, there in ((near, NEAR, FAR), (far, FAR, NEAR)):
        wiring.configure_host(namespace, (wiring.Cable("eth0", here, macs[here], there, macs[there]),))
        wiring.write_sysctl(namespace, "net.ipv4.tcp_no_metrics_save", "1")
    return near, far


@contextlib.contextmanager
def connection(
    near: NetworkNamespace, far: NetworkNamespace, port: int
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection from the near host to a port of the far one: both ends."""
    with far.entered():
        server = socket.create_server((FAR, port))
    with server:
        with near.entered():
            out = socket.create_connection((FAR, port), timeout=30)
        there, _ = server.accept()
    with out, there:
        for end in (out, there):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(30)
        yield out, there


def round_trips_s(ends: tuple[socket.socket, socket.socket], count: int) -> list[float]:
    """Seconds of a byte there and back."""
    out, there = ends
    found = []
    for _ in range(count):
        start_s = time.monotonic()
        out.sendall(b"p")
        there.recv(1)
        there.sendall(b"p")
        out.recv(1)
        found.append(time.monotonic() - start_s)
    return found


def one_way_s(ends: tuple[socket.socket, socket.socket], size_bytes: int) -> float:
    """Seconds from the start of sending to the end of receiving."""
    out, there = ends
    sender = threading.Thread(target=out.sendall, args=(bytes(size_bytes),))
    start_s = time.monotonic()
    sender.start()
    left = size_bytes
    while left:
        left -= len(there.recv(min(left, 2**18)))
    end_s = time.monotonic()
    sender.join()
    return end_s - start_s


def datagrams(near: NetworkNamespace, far: NetworkNamespace, count: int, gap_s: float) -> list[tuple[int, float]]:
    """Number and one-way seconds of those of `count` datagrams that arrive, in the order that they do."""
    with near.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with far.entered():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    arrived: list[tuple[int, float]] = []
    with sender, receiver:
        receiver.bind((FAR, 9999))
        receiver.settimeout(1.0)

        def receive() -> None:
            with contextlib.suppress(TimeoutError):
                while True:
                    number, sent_s = struct.unpack("Id", receiver.recv(64))
                    arrived.append((number, time.monotonic() - sent_s))

        listening = threading.Thread(target=receive)
        listening.start()
        for number in range(count):
            sender.sendto(struct.pack("Id", number, time.monotonic()), (FAR, 9999))
            time.sleep(gap_s)
        listening.join()
    return arrived


def measure(near: NetworkNamespace, far: NetworkNamespace, size_bytes: int) -> dict[str, object]:
    """Round trips and a warm transfer at the data port, and both at the control port."""
    found: dict[str, object] = {}
    for name, port in (("data", DATA_PORT), ("control", CONTROL_PORT)):
        with connection(near, far, port) as ends:
            found[f"{name}_rtt_s"] = min(round_trips_s(ends, 5))
            for _ in range(2):
                one_way_s(ends, size_bytes)
            found[f"{name}_one_way_s"] = min(one_way_s(ends, size_bytes) for _ in range(4))
    return found


def setting(
    rate_bps: float | None, delay_s: float = 0.0, jitter_s: float = 0.0, loss: float = 0.0, **words: object
) -> Setting:
    """That link from the near host, to the far one's data port; or with `peers`, to those."""
    peers = words.pop("peers", (Peer(FAR, (DATA_PORT,)),))
    egress = egress_of(rate_bps, delay_s, jitter_s, loss, **words)  # type: ignore[arg-type]  # its own options
    return Setting(interface="eth0", paths=(Path(egress, peers),))  # type: ignore[arg-type]  # of `words`


def over_netem(near: NetworkNamespace, far: NetworkNamespace) -> Iterator[tuple[str, object]]:
    """By netlink: read back, measured, removed."""
    with near.entered():
        asked = setting(20e6, 0.040)
        wanted, _ = kernel.apply(asked)
        yield "read_back", kernel.read("eth0").setting == wanted
        yield "tc", subprocess.run(["tc", "-d", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True).stdout
    yield "shaped", measure(near, far, 500_000)
    with near.entered():
        kernel.remove("eth0")
        yield "default_again", kernel.read("eth0").is_default
    yield "unshaped", measure(near, far, 500_000)


def by_hand(near: NetworkNamespace) -> Iterator[tuple[str, object]]:
    """The very lines of a dry run, typed: what netlink reads is the setting."""
    # Times that are whole ticks of 64 ns, to which tc rounds.
    asked = setting(5e6, 0.1, 0.0128, 0.001, limit_bytes=100_000)
    complaints = []
    with near.entered():
        for line in lines(asked):
            done = subprocess.run(line.split(), capture_output=True, text=True)
            complaints += [f"{line}: {done.stderr.strip()}"] if done.returncode else []
        found = kernel.read("eth0")
        kernel.remove("eth0")
    yield "typed_complaints", complaints
    yield "typed_read_back", found.setting == asked
    yield "typed_problem", found.problem


def by_chance(near: NetworkNamespace, far: NetworkNamespace) -> Iterator[tuple[str, object]]:
    """Jitter and loss, of datagrams, to the whole address."""
    with near.entered(), ShapingLease(setting(10e6, 0.030, 0.010, 0.25, peers=(Peer(FAR),))):
        arrived = datagrams(near, far, 300, 0.005)
    numbers, delays_s = zip(*arrived, strict=True)
    yield "arrived", len(arrived)
    yield "in_order", list(numbers) == sorted(numbers)
    tenths = statistics.quantiles(delays_s, n=10)
    yield "delays_s", [min(delays_s), tenths[0], tenths[4], tenths[8]]


def queues(near: NetworkNamespace, far: NetworkNamespace) -> Iterator[tuple[str, object]]:
    """Most packets that wait during a transfer at the same rate, under netem and under htb alone."""
    for limiter in ("netem", "htb"):
        waiting = [0]
        asked = setting(5e6, limiter=limiter)
        with near.entered(), ShapingLease(asked), connection(near, far, DATA_PORT) as ends:
            receiving = threading.Thread(target=one_way_s, args=(ends, 800_000))
            receiving.start()
            while receiving.is_alive():
                shown = subprocess.run(["tc", "-s", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True)
                waiting += map(int, re.findall(r"backlog \S+b (\d+)p", shown.stdout))
                time.sleep(0.02)
            receiving.join()
        yield f"{limiter}_waiting", max(waiting)


def killed(near: NetworkNamespace) -> Iterator[tuple[str, object]]:
    """An owner killed with -9: what is on the interface soon after."""
    code = "import sys, time; sys.path[:0] = sys.argv[1:]; import shaping_guest as g; "
    code += "l = g.ShapingLease(g.setting(5e6, 0.1)); print('set', flush=True); time.sleep(60)"
    with near.entered():
        command = [sys.executable, "-c", code, *sys.path]
        owner = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert owner.stdout is not None
        owner.stdout.readline()
        yield "held", kernel.read("eth0").is_ours
        owner.kill()
        owner.wait()
        end_s = time.monotonic() + 10
        while kernel.read("eth0").is_ours and time.monotonic() < end_s:
            time.sleep(0.01)
        yield "gone_after_kill", kernel.read("eth0").is_default


def main() -> None:
    """Everything, one JSON object a line."""
    near, far = two_hosts()
    parts: tuple[Callable[[], Iterator[tuple[str, object]]], ...] = (
        lambda: over_netem(near, far),
        lambda: by_hand(near),
        lambda: by_chance(near, far),
        lambda: queues(near, far),
        lambda: killed(near),
    )
    for part in parts:
        for name, value in part():
            print("RESULT " + json.dumps({name: value}), flush=True)
    print("RESULT " + json.dumps({"kernel": os.uname().release}), flush=True)


if __name__ == "__main__":
    main()
