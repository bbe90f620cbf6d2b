"""A setting as the `ethtool` and `tc` lines that make it, and back.

The lines are what a dry run prints, and what can be typed on a device without this program. `parse` reads them again,
so a keeper is told its setting in the very words that a person sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import cast

from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine.offloads import MOST_SEGMENTS
from hwrun.shaping.claims import Claim, Side, claims_of, setting_of
from hwrun.shaping.setting import FRAME_BYTES, LOSS_STEPS, Egress, Setting, loss_of

# The class above a netem: faster than any interface that this program fills, in a 32-bit count of bytes per second.
PASS_THROUGH_BPS, PASS_THROUGH_BURST_BYTES = 32_000_000_000, 1_000_000
QUANTUM_BYTES = FRAME_BYTES
_WORDS = {4: ("ip", "ip", 32), 6: ("ipv6", "ip6", 128)}
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_BITS = {"gbit": 10**9, "mbit": 10**6, "kbit": 10**3, "bit": 1}


def class_rate(egress: Egress) -> tuple[int, int]:
    """Rate (bits per second) and burst (bytes) of the class of a path.

    A burst is free credit after idle, so a limiting class has few: 250 µs' worth, with which a token bucket gave 95.6 %
    of its rate as payload from 5 to 500 Mbit/s, all that headers leave.
    """
    if egress.limiter == "netem":
        return PASS_THROUGH_BPS, PASS_THROUGH_BURST_BYTES
    assert egress.rate_bps is not None  # Egress has checked it
    return egress.rate_bps, max(5000, round(egress.rate_bps / 8 * 250e-6))


def leaf_major(setting_major: int, number: int) -> int:
    """Handle of the qdisc under class `number`."""
    return setting_major + 0x10 * number


def lines(setting: Setting) -> tuple[str, ...]:
    """The commands, in order."""
    device, root = f"dev {setting.interface}", f"{setting.major:x}:"
    found = [
        f"ethtool -K {setting.interface} tso off gso off",
        f"ip link set {device} gso_max_segs 1",
        f"tc qdisc add {device} root handle {root} htb default 0",
    ]
    for number, path in enumerate(setting.paths, start=1):
        rate_bps, burst_bytes = class_rate(path.egress)
        found += [
            f"tc class add {device} parent {root} classid {root}{number:x} htb rate {_rate(rate_bps)}"
            f" burst {burst_bytes}b cburst {burst_bytes}b quantum {QUANTUM_BYTES}",
            f"tc qdisc add {device} parent {root}{number:x} handle {leaf_major(setting.major, number):x}:"
            f" {_leaf(path.egress)}",
        ]
    found += [f"tc filter add {device} parent {root} {_filter(claim, root)}" for claim in claims_of(setting)]
    return tuple(found)


def removal_lines(setting: Setting) -> tuple[str, ...]:
    """The commands that take it back."""
    found = [f"tc qdisc del dev {setting.interface} root"]
    if back := " ".join(f"{name} on" for name in setting.restores if name != "segs"):
        found.append(f"ethtool -K {setting.interface} {back}")
    if "segs" in setting.restores:
        found.append(f"ip link set dev {setting.interface} gso_max_segs {MOST_SEGMENTS}")
    return tuple(found)


def _filter(claim: Claim, root: str) -> str:
    protocol, word, length = _WORDS[claim.version]
    match = f"match {word} dst {claim.address}/{length}"
    if claim.port is not None:
        match += f" match {word} protocol 6 0xff match {word} {claim.side} {claim.port} 0xffff"
    return f"protocol {protocol} prio {claim.priority} u32 {match} flowid {root}{claim.target:x}"


def _leaf(egress: Egress) -> str:
    if egress.limiter == "htb":
        return f"pfifo limit {egress.limit_packets}"
    words = [f"netem limit {egress.limit_packets}"]
    if egress.delay_ns:
        words.append(f"delay {_time(egress.delay_ns)}" + (f" {_time(egress.jitter_ns)}" if egress.jitter_ns else ""))
    if egress.loss_steps:
        words.append(f"loss {_percent(egress)}%")
    if egress.rate_bps is not None:
        words.append(f"rate {_rate(egress.rate_bps)}")
    return " ".join(words)


def _percent(egress: Egress) -> str:
    """The shortest percentage that comes to the same number of the kernel's steps."""
    spelled = (f"{egress.loss * 100:.{digits}g}" for digits in range(1, 17))
    return next(text for text in spelled if _steps(text) == egress.loss_steps)


def _steps(percent: str) -> int:
    return round(float(percent) / 100 * LOSS_STEPS)


def _rate(rate_bps: int) -> str:
    return next(f"{rate_bps // size}{unit}" for unit, size in _BITS.items() if rate_bps % size == 0)


def _time(time_ns: int) -> str:
    return next(f"{time_ns // size}{unit}" for unit, size in _NS.items() if time_ns % size == 0)


_ROOT = re.compile(r"tc qdisc add dev (\S+) root handle ([0-9a-f]+): htb default 0")
_CLASS = re.compile(r"tc class add dev \S+ parent \S+ classid \S+ htb rate (\d+[a-z]+) burst (\d+)b cburst \d+b .*")
_LEAF = re.compile(
    r"tc qdisc add dev \S+ parent \S+ handle \S+ (?:pfifo limit (?P<fifo>\d+)|netem limit (?P<limit>\d+)"
    r"(?: delay (?P<delay>\d+[mun]?s)(?: (?P<jitter>\d+[mun]?s))?)?(?: loss (?P<loss>[\d.e-]+)%)?"
    r"(?: rate (?P<rate>\d+[a-z]+))?)"
)
_FILTER = re.compile(
    r"tc filter add dev \S+ parent \S+ protocol (?P<protocol>ipv?6?) prio (?P<priority>\d+) u32"
    r" match ip6? dst (?P<address>[0-9a-f.:]+)/\d+"
    r"(?: match ip6? protocol 6 0xff match ip6? (?P<side>[ds]port) (?P<port>\d+) 0xffff)?"
    r" flowid [0-9a-f]+:(?P<target>[0-9a-f]+)"
)


def parse(commands: Sequence[str]) -> Setting:
    """The setting that `lines` prints as these.

    Raises
    ------
    BadUsageError : they are not the lines of any setting.
    """
    root, egresses, claims, limits = None, [], [], [0]
    for line in commands:
        if found := _ROOT.fullmatch(line):
            root = found
        elif found := _CLASS.fullmatch(line):
            limits.append(_bits(found[1]))
        elif found := _LEAF.fullmatch(line):
            egresses.append(_egress(found.groupdict(), limits[-1]))
        elif found := _FILTER.fullmatch(line):
            port, side = found["port"], cast(Side | None, found["side"])
            version = 6 if found["protocol"] == "ipv6" else 4
            number = None if port is None else int(port)
            claims.append(
                Claim(int(found["priority"]), version, found["address"], side, number, int(found["target"], 16))
            )
    if root is None:
        raise BadUsageError("setting: got no line that adds a root, expected the lines of hwrun shape --dry-run")
    try:
        setting = setting_of(root[1], int(root[2], 16), egresses, claims)
    except HwrunError as error:
        raise BadUsageError(f"setting: got lines of no setting ({error}); expected those of a dry run") from error
    for wanted, got in zip((*lines(setting), None), (*commands, None), strict=False):
        if wanted != got:
            raise BadUsageError(f"setting: got {got!r}, expected {wanted!r}")
    return setting


def _egress(found: dict[str, str | None], class_bps: int) -> Egress:
    if (fifo := found["fifo"]) is not None:
        return Egress(rate_bps=class_bps, limit_packets=int(fifo), limiter="htb")
    rate, loss = found["rate"], found["loss"]
    return Egress(
        rate_bps=None if rate is None else _bits(rate),
        delay_s=_seconds(found["delay"]),
        jitter_s=_seconds(found["jitter"]),
        loss=loss_of(_steps(loss or "0")),
        limit_packets=int(found["limit"] or 0),
    )


def _bits(text: str) -> int:
    return _whole(text, _BITS)


def _seconds(text: str | None) -> float:
    return 0.0 if text is None else _whole(text, _NS) / 1e9


def _whole(text: str, units: Mapping[str, int]) -> int:
    unit = text.lstrip("0123456789")
    if unit not in units:
        raise BadUsageError(f"setting: got {text!r}, expected a unit of {', '.join(units)}")
    return int(text.removesuffix(unit)) * units[unit]
