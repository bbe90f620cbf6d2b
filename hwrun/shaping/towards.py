"""Which interface leads to an address, as the kernel's own route lookup says."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from hwrun.errors import BadUsageError


def interface_towards(address: str) -> str:
    """Name of the interface that packets to `address` leave by.

    Raises
    ------
    BadUsageError : no route leads there, or it is this very host.
    """
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((address, 9))  # no packet is sent; the kernel chooses the source address
        except OSError as error:
            raise BadUsageError(f"peer: got {address}, to which there is no route ({error.strerror})") from error
        own = ipaddress.ip_address(asking.getsockname()[0])
    if own == ipaddress.ip_address(address) or own.is_loopback:
        raise BadUsageError(f"peer: got {address}, which is this host; expected the address of another")
    for interface, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family == family and ipaddress.ip_address(one.address.partition("%")[0]) == own:
                return interface
    raise BadUsageError(f"peer: got {address}, but no interface has {own}, its route's source; give --interface")
