"""Options of qdiscs, classes and filters as the kernel's bytes (linux/pkt_sched.h, linux/pkt_cls.h). Pure.

Every pair here encodes and decodes the same values; decoding refuses what an encoding of ours would not hold.
"""

from __future__ import annotations

import ipaddress
import struct
import sys

from hwrun.shaping.claims import Claim, NotOursError, Side
from hwrun.shaping.rtnetlink import attribute, attributes
from hwrun.shaping.setting import Egress, loss_of

# The scheduler's clock ticks every 64 ns (PSCHED_SHIFT 6), the same in every kernel since 2.6.31.
_TICK_NS = 64
_HTB_PARMS, _HTB_INIT, _HTB_RATE64 = 1, 2, 6
_HTB_GLOBAL = struct.Struct("=IIIII")  # version, rate2quantum, default class, debug, direct packets
_HTB_VERSION = 3
_RATE_SPEC = struct.Struct("=BBHhHI")  # cell log, link layer, overhead, cell align, mpu, bytes per second
_LINK_LAYER_ETHERNET = 1
_HTB_CLASS = struct.Struct("=IIIII")  # buffer, ceiling's buffer (ticks), quantum, level, priority
_NETEM = struct.Struct("=IIIIII")  # latency (ticks), limit, loss, gap, duplicate, jitter (ticks)
_NETEM_CORRELATION, _NETEM_REORDER, _NETEM_CORRUPT, _NETEM_LOSS_MODEL = 1, 3, 4, 5
_NETEM_RATE, _NETEM_RATE64, _NETEM_LATENCY64, _NETEM_JITTER64, _NETEM_SLOT = 6, 8, 10, 11, 12
_U32_CLASS, _U32_SELECTOR = 1, 5
_SELECTOR = struct.Struct("=BBBxHHhHI")  # flags, offshift, keys, offmask, off, offoff, hoff, hmask
_KEY = struct.Struct(">II")  # mask, value: as they stand in the packet
_KEY_OFFSET = struct.Struct("=ii")
_TERMINAL = 1
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
# Where the protocol, the destination and the ports stand: byte offsets from the start of the IP header without options.
_PROTOCOL_AT, _DESTINATION_AT, _PORTS_AT = {4: 8, 6: 4}, {4: 16, 6: 24}, {4: 20, 6: 40}
_PROTOCOL_KEY = {4: (0x00FF0000, 0x00060000), 6: (0x0000FF00, 0x00000600)}
_PORT_SHIFT = {"sport": 16, "dport": 0}
Key = tuple[int, int, int]  # offset, mask, value


def htb_root() -> bytes:
    """A root whose unclaimed packets go straight out."""
    return attribute(_HTB_INIT, _HTB_GLOBAL.pack(_HTB_VERSION, 10, 0, 0, 0))


def check_htb_root(raw: bytes) -> None:
    """Raise NotOursError where unclaimed packets go to a class."""
    found = attributes(raw).get(_HTB_INIT)
    if found is None or _HTB_GLOBAL.unpack_from(found)[2] != 0:
        raise NotOursError("the root's default class is not 0")


def htb_class(rate_bps: int, burst_bytes: int, quantum_bytes: int) -> bytes:
    """A class of that rate and burst."""
    rate = _RATE_SPEC.pack(0, _LINK_LAYER_ETHERNET, 0, 0, 0, rate_bps // 8)
    ticks = burst_ticks(rate_bps, burst_bytes)
    return attribute(_HTB_PARMS, rate + rate + _HTB_CLASS.pack(ticks, ticks, quantum_bytes, 0, 0))


def read_htb_class(raw: bytes) -> tuple[int, int, int]:
    """Rate (bits per second), burst (ticks) and quantum (bytes)."""
    found = attributes(raw)
    if _HTB_PARMS not in found or _HTB_RATE64 in found:
        raise NotOursError("a class has no rate, or one beyond 34 Gbit/s")
    parms = found[_HTB_PARMS]
    rates = [_RATE_SPEC.unpack_from(parms, at)[5] for at in (0, _RATE_SPEC.size)]
    ticks, ceiling_ticks, quantum, _, _ = _HTB_CLASS.unpack_from(parms, 2 * _RATE_SPEC.size)
    if rates[0] != rates[1] or ticks != ceiling_ticks:
        raise NotOursError("a class's ceiling is not its rate")
    return rates[0] * 8, ticks, quantum


def burst_ticks(rate_bps: int, burst_bytes: int) -> int:
    """How long a burst lasts at the rate, in the kernel's ticks of 64 ns; to the microsecond, as tc counts it."""
    return burst_bytes * 8 * 10**6 // rate_bps * 1000 // _TICK_NS


def fifo(limit_packets: int) -> bytes:
    """A queue of that many packets."""
    return struct.pack("=I", limit_packets)


def read_fifo(raw: bytes) -> int:
    """Its limit."""
    return int(struct.unpack_from("=I", raw)[0])


def netem(egress: Egress) -> bytes:
    """Delay, jitter, loss, rate and limit."""
    ticks = (min(value // _TICK_NS, 2**32 - 1) for value in (egress.delay_ns, egress.jitter_ns))
    raw = _NETEM.pack(next(ticks), egress.limit_packets, egress.loss_steps, 0, 0, next(ticks))
    # Ticks are for kernels before 4.16; the 64-bit ones hold every nanosecond.
    raw += attribute(_NETEM_LATENCY64, struct.pack("=q", egress.delay_ns))
    raw += attribute(_NETEM_JITTER64, struct.pack("=q", egress.jitter_ns))
    if egress.rate_bps is not None:
        raw += attribute(_NETEM_RATE, struct.pack("=IiIi", egress.rate_bps // 8, 0, 0, 0))
    return raw


def read_netem(raw: bytes) -> Egress:
    """What a netem does.

    Raises
    ------
    NotOursError : it also does what this program never asks for.
    """
    delay_ticks, limit, loss, _, duplicate, jitter_ticks = _NETEM.unpack_from(raw)
    found = attributes(raw[_NETEM.size :])
    others = (_NETEM_CORRELATION, _NETEM_REORDER, _NETEM_CORRUPT)
    if duplicate or any(any(found.get(number, b"")) for number in others) or _NETEM_RATE64 in found:
        raise NotOursError("a netem duplicates, reorders, corrupts or correlates")
    if _NETEM_SLOT in found and any(found[_NETEM_SLOT]):
        raise NotOursError("a netem has slots")
    rate, overhead, cell, _ = struct.unpack("=IiIi", found[_NETEM_RATE]) if _NETEM_RATE in found else (0, 0, 0, 0)
    if overhead or cell:
        raise NotOursError("a netem's rate has an overhead or cells")
    delay_ns = struct.unpack("=q", found.get(_NETEM_LATENCY64, struct.pack("=q", delay_ticks * _TICK_NS)))[0]
    jitter_ns = struct.unpack("=q", found.get(_NETEM_JITTER64, struct.pack("=q", jitter_ticks * _TICK_NS)))[0]
    return Egress(
        rate_bps=rate * 8 or None,
        delay_s=delay_ns / 1e9,
        jitter_s=jitter_ns / 1e9,
        loss=loss_of(loss),
        limit_packets=limit,
    )


def filter_info(claim: Claim) -> int:
    """Priority and protocol of a filter, as its message's header has them."""
    return claim.priority << 16 | int.from_bytes(_ETHERTYPES[claim.version].to_bytes(2, "big"), sys.byteorder)


def u32_filter(claim: Claim, major: int) -> bytes:
    """Packets of the claim to its class."""
    keys = sorted(_keys(claim))
    raw = _SELECTOR.pack(_TERMINAL, 0, len(keys), 0, 0, 0, 0, 0)
    for offset, mask, value in keys:
        raw += _KEY.pack(mask, value) + _KEY_OFFSET.pack(offset, 0)
    return attribute(_U32_CLASS, struct.pack("=I", major << 16 | claim.target)) + attribute(_U32_SELECTOR, raw)


def read_u32_filter(raw: bytes, info: int) -> Claim | None:
    """The claim of a filter; None for the hash tables that the kernel lists among them.

    Raises
    ------
    NotOursError : it matches something else.
    """
    found = attributes(raw)
    if _U32_SELECTOR not in found:
        return None
    selector = found[_U32_SELECTOR]
    count = _SELECTOR.unpack_from(selector)[2]
    keys: list[Key] = []
    for at in range(_SELECTOR.size, _SELECTOR.size + 16 * count, 16):
        mask, value = _KEY.unpack_from(selector, at)
        keys.append((_KEY_OFFSET.unpack_from(selector, at + _KEY.size)[0], mask, value))
    ethertype = int.from_bytes((info & 0xFFFF).to_bytes(2, sys.byteorder), "big")
    version = next((number for number, kind in _ETHERTYPES.items() if kind == ethertype), None)
    if version is None or _U32_CLASS not in found:
        raise NotOursError(f"a filter is of protocol {ethertype:#06x}, or leads nowhere")
    by_offset = {offset: (mask, value) for offset, mask, value in keys}
    size, at = (4, _DESTINATION_AT[4]) if version == 4 else (16, _DESTINATION_AT[6])
    words = [by_offset.get(offset, (0, 0))[1] for offset in range(at, at + size, 4)]
    address = str(ipaddress.ip_address(struct.pack(f">{len(words)}I", *words)))
    target = struct.unpack("=I", found[_U32_CLASS])[0] & 0xFFFF
    ports = by_offset.get(_PORTS_AT[version])
    claim = Claim(info >> 16, version, address, None, None, target)
    if ports is not None:
        side: Side = "sport" if ports[0] == 0xFFFF0000 else "dport"
        claim = claim._replace(side=side, port=ports[1] >> _PORT_SHIFT[side] & 0xFFFF)
    if sorted(_keys(claim)) != sorted(keys):
        raise NotOursError("a filter matches other bytes than an address and a port")
    return claim


def _keys(claim: Claim) -> list[Key]:
    packed = ipaddress.ip_address(claim.address).packed
    words = struct.unpack(f">{len(packed) // 4}I", packed)
    keys = [(_DESTINATION_AT[claim.version] + 4 * number, 0xFFFFFFFF, word) for number, word in enumerate(words)]
    if claim.side is not None and claim.port is not None:
        shift = _PORT_SHIFT[claim.side]
        keys.append((_PROTOCOL_AT[claim.version], *_PROTOCOL_KEY[claim.version]))
        keys.append((_PORTS_AT[claim.version], 0xFFFF << shift, claim.port << shift))
    return keys
