"""Segmentation and checksum offloads of an interface (ethtool's ioctl), on which depends what a qdisc sees.

With them on, TCP hands segments of up to 64 kB to the interface, which netem delays, drops and counts as one packet.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from typing import Literal

from hwrun.errors import HwrunError

Offload = Literal["tx", "tso", "gso", "gro"]
_SIOCETHTOOL = 0x8946
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
    return _ethtool(interface, _COMMANDS[offload][1], 0) != 0


def switch(interface: str, offload: Offload, on: bool) -> None:
    """Switch it on or off, verified by reading back.

    Raises
    ------
    OSError : refused.
    HwrunError : it did not change: the driver has it fixed.
    """
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
