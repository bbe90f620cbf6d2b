"""Segmentation and checksum offloads of an interface (ethtool's ioctl), on which depends what a qdisc sees.

With them on, TCP hands segments of up to 64 kB to the interface, which netem delays, drops and counts as one packet.
Since Linux 4.17 it does so whatever `gso` says, for the kernel cuts them up behind the qdisc; only a limit of one
segment (`ip link set … gso_max_segs 1`), here the offload `segs`, keeps packets at the MTU.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import sys
from typing import Literal

from hwrun.errors import HwrunError
from hwrun.shaping.rtnetlink import attribute, change_link, link_attributes

Offload = Literal["tx", "tso", "gso", "gro", "segs"]
_SIOCETHTOOL = 0x8946
_GSO_MAX_SEGS, _TSO_MAX_SEGS = 40, 60  # linux/if_link.h
MOST_SEGMENTS = 65535
# linux/ethtool.h: the commands that set and get each.
_COMMANDS: dict[Offload, tuple[int, int]] = {
    "tx": (0x17, 0x16), "tso": (0x1F, 0x1E), "gso": (0x24, 0x23), "gro": (0x2C, 0x2B),
}  # fmt: skip


def is_on(interface: str, offload: Offload) -> bool:
    """Whether it is on, of an interface of the calling thread's network namespace.

    Raises
    ------
    OSError : no such interface, or one that does not say.
    """
    if offload == "segs":
        return _segments(interface)[0] != 1
    return _ethtool(interface, _COMMANDS[offload][1], 0) != 0


def switch(interface: str, offload: Offload, on: bool) -> None:
    """Switch it on or off, verified by reading back.

    Raises
    ------
    OSError : refused.
    HwrunError : it did not change: the driver has it fixed.
    """
    if offload == "segs":
        _limit_segments(interface, _segments(interface)[1] if on else 1)
    else:
        _ethtool(interface, _COMMANDS[offload][0], int(on))
    if is_on(interface, offload) != on:
        wanted, got = ("on", "off") if on else ("off", "on")
        raise HwrunError(f"offload {offload} of {interface}: got {got} after switching it {wanted}, expected {wanted}")


def _ethtool(interface: str, command: int, value: int) -> int:
    # struct ifreq { char name[16]; void *data; } pointing at struct ethtool_value { u32 command; u32 value }
    exchange = ctypes.create_string_buffer(struct.pack("II", command, value), 8)
    request = struct.pack("16sP", interface.encode(), ctypes.addressof(exchange))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCETHTOOL, request.ljust(40, b"\0"))
    return int(struct.unpack("II", exchange.raw)[1])


def _segments(interface: str) -> tuple[int, int]:
    """How many segments a packet to the interface may be of, and the most that the driver takes."""
    found = link_attributes(socket.if_nametoindex(interface))
    now, most = (found.get(number) for number in (_GSO_MAX_SEGS, _TSO_MAX_SEGS))
    # Kernels before 5.19 do not tell the driver's bound, and before 4.6 nothing; 65535 is what all but few have.
    bound = MOST_SEGMENTS if most is None else min(MOST_SEGMENTS, int.from_bytes(most, sys.byteorder))
    return bound if now is None else int.from_bytes(now, sys.byteorder), bound


def _limit_segments(interface: str, segments: int) -> None:
    change_link(socket.if_nametoindex(interface), attribute(_GSO_MAX_SEGS, struct.pack("=I", segments)))
