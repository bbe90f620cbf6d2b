"""`hwrun shape`: make this device's link to some peers as slow, late or lossy as asked, for as long as this runs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import get_args

from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine.offloads import is_on
from hwrun.shaping import kernel
from hwrun.shaping.keeper import end_keeper_of
from hwrun.shaping.lease import DEFAULT_LEASE_S, ShapingLease, check_lease
from hwrun.shaping.setting import OFFLOADS, Limiter, Path, Peer, Setting, egress_of
from hwrun.shaping.tc_lines import lines, removal_lines
from hwrun.shaping.towards import interface_towards
from hwrun.sweeps.duration import parse_long_duration_s, spoken
from paretosim.command_line import DONE
from paretosim.units import (
    format_duration,
    parse_duration_s,
    parse_fraction,
    parse_rate_bps,
    parse_size_bytes,
)

_HANDSHAKE_TIMEOUT_S = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `hwrun shape`."""
    parser.epilog = "Shape first and connect then: a connection that is open already keeps its large segments."
    parser.add_argument("--interface", metavar="NAME", help="what is shaped (default: the one that leads to the peers)")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="ADDR[:PORT[+PORT…]]",
        help="shape what is sent to this address (and TCP port, at either end); everything else is not; repeatable",
    )
    parser.add_argument(
        "--except-port",
        action="append",
        default=[],
        type=int,
        metavar="PORT",
        help="a TCP port that stays unshaped for peers without ports, such as 22 or the worker's control port",
    )
    parser.add_argument("--bw", metavar="RATE", help="such as 5mbit; headers of Ethernet, IP and TCP are counted")
    parser.add_argument("--delay", metavar="TIME", help="such as 100ms, once for what this device sends")
    parser.add_argument("--jitter", metavar="TIME", help="delays are uniform over delay ± this")
    parser.add_argument("--loss", metavar="SHARE%", help="of packets, each by itself, such as 0.1%%")
    parser.add_argument("--limit", metavar="SIZE", help="of the queue before the rate (default: a window of TCP)")
    parser.add_argument(
        "--limiter",
        choices=get_args(Limiter),
        default="netem",
        help="what sets the rate: netem (default), or htb on a kernel without netem, which knows a rate alone",
    )
    parser.add_argument("--for", dest="duration", metavar="TIME", help="end after this long, such as 10m")
    parser.add_argument(
        "--lease", metavar="TIME", default=f"{DEFAULT_LEASE_S:g}s", help="how long it outlives this command at most"
    )
    parser.add_argument("--replace", action="store_true", help="put aside a root qdisc that somebody set, meanwhile")
    parser.add_argument(
        "--probe", action="store_true", help="time a TCP handshake with each peer's port, before and in it"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the tc lines and stop; needs no rights")
    parser.add_argument("--clear", action="store_true", help="take away what hwrun shape left or keeps on --interface")


def run(arguments: argparse.Namespace) -> int:
    """Shape until Ctrl-C, SIGTERM or the time is over; or clear."""
    if arguments.clear:
        return _clear(arguments)
    setting = setting_asked(arguments)
    if arguments.dry_run:
        if setting.interface in [name for _, name in socket.if_nameindex()]:
            restores = tuple(name for name in OFFLOADS if is_on(setting.interface, name))
            setting = dataclasses.replace(setting, restores=restores)
        print("\n".join((*lines(setting), "# and afterwards", *removal_lines(setting))))
        return DONE
    lease_s = parse_long_duration_s(arguments.lease, "--lease")
    duration_s = None if arguments.duration is None else parse_long_duration_s(arguments.duration, "--for")
    check_lease(lease_s)
    before = _handshakes(setting) if arguments.probe else {}
    with _told_to_end() as ended, ShapingLease(setting, lease_s, replace_root=arguments.replace) as lease:
        print("\n".join(lines(lease.setting)), flush=True)
        _say(f"{lease.interface}: set, and read back the same")
        for peer, seconds in (_handshakes(setting) if arguments.probe else {}).items():
            _say(f"{peer}: TCP handshake {_shown(before.get(peer))} before, {_shown(seconds)} now")
        until = "Ctrl-C" if duration_s is None else f"{spoken(duration_s)} from now, or Ctrl-C"
        _say(f"{lease.interface}: shaped until {until}")
        _hold(lease, lease_s, duration_s, ended)
    _say(f"{lease.interface}: as it was before")
    return DONE


@contextlib.contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """What Ctrl-C, SIGTERM and a closed terminal set meanwhile."""
    ended = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, lambda *_: ended.set()) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _hold(lease: ShapingLease, lease_s: float, duration_s: float | None, ended: threading.Event) -> None:
    end_s = float("inf") if duration_s is None else time.monotonic() + duration_s
    while (left_s := end_s - time.monotonic()) > 0:
        # Thrice a lease, so that one renewal may be late.
        if ended.wait(min(left_s, lease_s / 3)):
            return
        lease.renew()


def setting_asked(arguments: argparse.Namespace) -> Setting:
    """The setting that these options ask for.

    Raises
    ------
    BadUsageError, BadInputError : options that cannot be.
    """
    if not arguments.peer:
        raise BadUsageError(
            "--peer: got none, expected the address of the device that data are sent to, such as 10.0.0.2"
        )
    if not any((arguments.bw, arguments.delay, arguments.loss)):
        raise BadUsageError("--bw, --delay, --loss: got none, expected what the link is to be, such as --bw 5mbit")
    if arguments.jitter is not None and arguments.delay is None:
        raise BadUsageError("--jitter: got no --delay with it, expected one: delays are uniform over delay ± jitter")
    peers = tuple(Peer.parse(text) for text in arguments.peer)
    egress = egress_of(
        None if arguments.bw is None else parse_rate_bps(arguments.bw, "--bw"),
        0.0 if arguments.delay is None else parse_duration_s(arguments.delay, "--delay"),
        0.0 if arguments.jitter is None else parse_duration_s(arguments.jitter, "--jitter"),
        0.0 if arguments.loss is None else parse_fraction(arguments.loss, "--loss"),
        None if arguments.limit is None else parse_size_bytes(arguments.limit, "--limit"),
        arguments.limiter,
    )
    interface = arguments.interface
    if interface is None:
        towards = {str(peer): interface_towards(peer.address) for peer in peers}
        if len(set(towards.values())) > 1:
            listed = ", ".join(f"{peer} by {name}" for peer, name in towards.items())
            raise BadUsageError(f"--interface: peers are reached by several ({listed}); shape one interface at a time")
        interface = next(iter(towards.values()))
    return Setting(interface=interface, paths=(Path(egress, peers),), except_ports=tuple(arguments.except_port))


def _clear(arguments: argparse.Namespace) -> int:
    if arguments.interface is None:
        raise BadUsageError("--clear: got no --interface, expected the one to clear, such as --interface eth0")
    interface = arguments.interface
    pid = end_keeper_of(interface)
    left = kernel.remove(interface)
    if pid is not None:
        _say(f"{interface}: ended the keeper, process {pid}")
    if left or pid is not None:
        _say(f"{interface}: cleared; now {kernel.read(interface)}")
    else:
        _say(f"{interface}: nothing of hwrun to clear; it has {kernel.read(interface)}")
    return DONE


def _handshakes(setting: Setting) -> dict[str, float | None]:
    """Seconds of a TCP handshake with each peer's first port; None where nobody answers.

    Raises
    ------
    BadUsageError : a peer without a port.
    """
    found: dict[str, float | None] = {}
    for path in setting.paths:
        for peer in path.peers:
            if not peer.ports:
                raise BadUsageError(
                    f"--probe: got peer {peer} without a port, expected ADDR:PORT where somebody listens"
                )
            found[str(peer)] = None
            start_s = time.monotonic()
            with (
                contextlib.suppress(OSError),
                socket.create_connection((peer.address, peer.ports[0]), _HANDSHAKE_TIMEOUT_S),
            ):
                found[str(peer)] = time.monotonic() - start_s
    return found


def _shown(seconds: float | None) -> str:
    return "unanswered" if seconds is None else format_duration(seconds, digits=3, gap=" ")


def _say(line: str) -> None:
    with contextlib.suppress(HwrunError, OSError):
        print(f"hwrun shape: {line}", file=sys.stderr, flush=True)
