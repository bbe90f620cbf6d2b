"""A shaping setting: what leaves an interface for some peers is delayed, limited and lost as asked; nothing else is.

The tree is the same for every setting. The root is an `htb` with default class 0, which sends whatever no filter
claims at once and unshaped. Each path (what happens, and to which peers) has one class below it, and filters on the
peer's address and ports that lead there. A `netem` under the class does delay, jitter, loss and rate; the class itself
is then far faster than any interface. Where a kernel has no netem and only a rate is asked, the class is the limit.

netem takes packets from TCP's own accounting, so that a queue builds before its rate as it does before a slow router;
under htb's rate alone, TCP small queues hold the sender back and hardly any queue builds (docs/shaping.md).

All fields are what the kernel can hold (whole bytes per second, nanoseconds, 2⁻³² of a loss), so that a setting read
back equals the one that was asked, or was not set.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hwrun.errors import BadUsageError
from hwrun.machine.offloads import Offload
from paretosim.units import format_duration, format_percent

if TYPE_CHECKING:
    from paretosim.link import Link

Limiter = Literal["netem", "htb"]
# A full frame as a qdisc counts it: 1500 bytes and the Ethernet header.
FRAME_BYTES = 1514
# TCP's largest window in full frames: tcp_rmem's 6 MiB over 1448 bytes of payload each.
WINDOW_PACKETS = -(-6 * 2**20 // 1448)
# A u32 counts netem's queue, and the kernel takes memory for what is in it alone.
_MOST_PACKETS = 2**31 - 1
LOSS_STEPS = 2**32 - 1
_MAX_DELAY_S = 600.0
# Below this no TCP connection gets through a handshake; above it the class's own pass-through rate would limit.
_LEAST_BPS, _MOST_BPS = 8, 30_000_000_000
# TC_H_MAJ of the root: whoever finds it knows whose it is. The low bits say which offloads were on before, so that a
# setting whose owner was killed can still be taken back whole.
HANDLE_MAJOR = 0x4850
OFFLOADS: tuple[Offload, ...] = ("tso", "gso", "segs")
_MOST_PATHS = 64
_INTERFACE = re.compile(r"[^\s/:]{1,15}")


@dataclass(frozen=True, kw_only=True)
class Egress:
    """What happens to packets of one path.

    Parameters
    ----------
    rate_bps : bits per second with Ethernet headers (14 bytes) counted, a multiple of 8; None for no limit.
    delay_s, jitter_s : a packet's delay is uniform over delay ± jitter.
    loss : share of packets lost, each by itself.
    limit_packets : of the queue. netem counts packets on their way as well as those that wait for the rate.
    limiter : what sets the rate; `htb` knows a rate alone.
    """

    rate_bps: int | None = None
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    limit_packets: int = 1000
    limiter: Limiter = "netem"

    def __post_init__(self) -> None:
        if self.rate_bps is not None and not (_LEAST_BPS <= self.rate_bps <= _MOST_BPS and self.rate_bps % 8 == 0):
            raise BadUsageError(
                f"rate: got {self.rate_bps} bit/s, expected a multiple of 8 from {_LEAST_BPS} to {_MOST_BPS}"
            )
        if not 0 <= self.delay_s <= _MAX_DELAY_S:
            raise BadUsageError(f"delay: got {self.delay_s} s, expected 0 to {_MAX_DELAY_S:g} s")
        if not 0 <= self.jitter_s <= self.delay_s:
            raise BadUsageError(f"jitter: got {self.jitter_s} s, expected 0 up to the delay, {self.delay_s} s")
        if not 0 <= self.loss < 1:
            raise BadUsageError(f"loss: got {self.loss}, expected a share from 0 to below 1")
        if not 1 <= self.limit_packets <= _MOST_PACKETS:
            raise BadUsageError(f"limit: got {self.limit_packets} packets, expected 1 to {_MOST_PACKETS}")
        if self.limiter == "htb":
            self._check_rate_alone()

    def _check_rate_alone(self) -> None:
        got = [] if self.rate_bps is not None else ["no rate"]
        got += [f"a delay of {format_duration(self.delay_s)}"] if self.delay_s else []
        got += [f"a loss of {format_percent(self.loss)}"] if self.loss else []
        if got:
            raise BadUsageError(
                f"limiter htb: got {' and '.join(got)}, expected a rate alone, such as 5mbit: htb neither delays"
                " packets nor loses them. Give a rate alone, or take limiter netem where the kernel has it (hwrun"
                " doctor says)"
            )

    @property
    def delay_ns(self) -> int:
        """The delay as the kernel holds it."""
        return round(self.delay_s * 1e9)

    @property
    def jitter_ns(self) -> int:
        """The jitter as the kernel holds it."""
        return round(self.jitter_s * 1e9)

    @property
    def loss_steps(self) -> int:
        """The loss as the kernel holds it."""
        return round(self.loss * LOSS_STEPS)


def loss_of(steps: int) -> float:
    """The share that this many of the kernel's steps are."""
    return steps / LOSS_STEPS


def egress_of(
    rate_bps: float | None,
    delay_s: float = 0.0,
    jitter_s: float = 0.0,
    loss: float = 0.0,
    limit_bytes: int | None = None,
    limiter: Limiter = "netem",
) -> Egress:
    """An egress whose queue holds what waits and what is on its way.

    Parameters
    ----------
    limit_bytes : that may wait for the rate; default TCP's largest window.
    """
    for name, value in (("rate", rate_bps), ("delay", delay_s), ("jitter", jitter_s), ("loss", loss)):
        if value is not None and not math.isfinite(value):
            raise BadUsageError(f"{name}: got {value}, expected a finite number")
    waiting = WINDOW_PACKETS if limit_bytes is None else math.ceil(limit_bytes / FRAME_BYTES)
    if limiter == "htb":
        on_its_way = 0
    elif rate_bps is None:
        on_its_way = WINDOW_PACKETS if delay_s else 0
    else:
        # Acknowledgements are small, so more of them are on their way than full frames; but no more than a window's.
        on_its_way = max(WINDOW_PACKETS if delay_s else 0, math.ceil(rate_bps * (delay_s + jitter_s) / 8 / FRAME_BYTES))
    return Egress(
        rate_bps=None if rate_bps is None else round(rate_bps / 8) * 8,
        delay_s=round(delay_s * 1e9) / 1e9,
        jitter_s=round(jitter_s * 1e9) / 1e9,
        loss=loss_of(round(loss * LOSS_STEPS)),
        limit_packets=min(waiting + on_its_way, _MOST_PACKETS),
        limiter=limiter,
    )


def egresses_of(link: Link) -> tuple[Egress, Egress]:
    """What the near end of a link does to what it sends, and what the far end does."""
    return (
        egress_of(link.rate_bps, link.one_way_delay_s, link.jitter_s, link.loss, link.limit_bytes),
        egress_of(link.return_rate_bps, link.return_delay_s, link.return_jitter_s, link.return_loss, link.limit_bytes),
    )


@dataclass(frozen=True)
class Peer:
    """Where packets go: an address, and the TCP ports (at either end) that are meant; without any, all of them.

    >>> str(Peer.parse("10.0.0.2:7071"))
    '10.0.0.2:7071'
    """

    address: str
    ports: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        try:
            canonical = str(ipaddress.ip_address(self.address))
        except ValueError as error:
            raise BadUsageError(
                f"peer: got {self.address!r}, expected an IPv4 or IPv6 address, such as 10.0.0.2 (names change: look it"
                " up with getent hosts NAME)"
            ) from error
        object.__setattr__(self, "address", canonical)
        _check_ports("peer", self.ports)
        object.__setattr__(self, "ports", tuple(sorted(self.ports)))

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.address).version

    @classmethod
    def parse(cls, text: str) -> Peer:
        """A peer written `ADDR`, `ADDR:PORT[+PORT…]` or, for IPv6 with ports, `[ADDR]:PORT`."""
        bracketed = re.fullmatch(r"\[([^\]]*)\](?::([\d+]+))?", text)
        if bracketed:
            address, ports = bracketed[1], bracketed[2] or ""
        elif text.count(":") == 1:
            address, _, ports = text.partition(":")
            if not ports:
                raise BadUsageError(f"peer: got {text!r}, expected ADDR or ADDR:PORT")
        else:
            address, ports = text, ""
        numbers = ports.split("+") if ports else []
        if not all(number.isdecimal() for number in numbers):
            raise BadUsageError(f"peer: got {text!r}, expected ADDR or ADDR:PORT, such as 10.0.0.2:7071")
        return cls(address, tuple(int(number) for number in numbers))

    def __str__(self) -> str:
        if not self.ports:
            return self.address
        address = f"[{self.address}]" if self.version == 6 else self.address
        return f"{address}:{'+'.join(map(str, self.ports))}"


def _check_ports(what: str, ports: tuple[int, ...]) -> None:
    if wrong := [port for port in ports if not 1 <= port <= 65535]:
        raise BadUsageError(f"{what}: got port {wrong[0]}, expected 1 to 65535")
    if len(set(ports)) != len(ports):
        raise BadUsageError(f"{what}: got a port twice in {ports}, expected each once")


@dataclass(frozen=True)
class Path:
    """What happens to packets for these peers."""

    egress: Egress
    peers: tuple[Peer, ...]

    def __post_init__(self) -> None:
        if not self.peers:
            raise BadUsageError("peers: got none, expected the addresses whose traffic is to be shaped")
        object.__setattr__(self, "peers", tuple(sorted(self.peers, key=_order)))


def _order(peer: Peer) -> tuple[int, int, tuple[int, ...]]:
    address = ipaddress.ip_address(peer.address)
    return address.version, int(address), peer.ports


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that is set on one interface.

    Order says nothing: peers and ports are kept sorted.

    Parameters
    ----------
    except_ports : TCP ports (at either end) that stay unshaped for every peer: of the control connection, of ssh.
    restores : offloads that were on before, and are switched on again when the setting is removed.
    """

    interface: str
    paths: tuple[Path, ...]
    except_ports: tuple[int, ...] = ()
    restores: tuple[Offload, ...] = ()

    def __post_init__(self) -> None:
        if not _INTERFACE.fullmatch(self.interface):
            raise BadUsageError(f"interface: got {self.interface!r}, expected a name such as eth0")
        if not 1 <= len(self.paths) <= _MOST_PATHS:
            raise BadUsageError(f"paths: got {len(self.paths)}, expected 1 to {_MOST_PATHS}")
        _check_ports("except_ports", self.except_ports)
        object.__setattr__(self, "except_ports", tuple(sorted(self.except_ports)))
        if self.except_ports and all(peer.ports for path in self.paths for peer in path.peers):
            raise BadUsageError(
                f"except_ports: got {self.except_ports}, but every peer names the ports that are meant; leave them out"
            )
        if [name for name in OFFLOADS if name in self.restores] != list(self.restores):
            raise BadUsageError(f"restores: got {self.restores}, expected some of {OFFLOADS}, in this order")
        claimed: set[tuple[str, int | None]] = set()
        for path in self.paths:
            for peer in path.peers:
                for port in peer.ports or (None,):
                    if (peer.address, port) in claimed:
                        raise BadUsageError(f"peer {peer}: got it in two paths, expected one path for it")
                    claimed.add((peer.address, port))
                if set(peer.ports) & set(self.except_ports):
                    raise BadUsageError(f"peer {peer}: got a port that is to stay unshaped too; expected one or other")

    @property
    def major(self) -> int:
        """Of the root's handle."""
        return handle_major(self.restores)


def handle_major(restores: tuple[Offload, ...]) -> int:
    """The root's handle, which says which offloads to switch on again."""
    return HANDLE_MAJOR | sum(1 << OFFLOADS.index(name) for name in restores)


def restores_of(major: int) -> tuple[Offload, ...] | None:
    """Offloads that a root with this handle says were on before; None for a root that is not ours."""
    if not HANDLE_MAJOR <= major < HANDLE_MAJOR + (1 << len(OFFLOADS)):
        return None
    return tuple(name for bit, name in enumerate(OFFLOADS) if major >> bit & 1)
