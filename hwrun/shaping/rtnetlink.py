"""Traffic control over a netlink socket: messages as bytes, and a socket that asks and reads (rtnetlink(7)).

Options are handed over and dumped as raw bytes, since that is what putting back another program's qdisc needs; and
libraries at hand know netem without its 64-bit delays, without which 100 ms come back as 99.999 936 ms.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from hwrun.errors import HwrunError

# linux/rtnetlink.h, linux/netlink.h, linux/pkt_sched.h
NEW_QDISC, DEL_QDISC, GET_QDISC = 36, 37, 38
NEW_CLASS, GET_CLASS = 40, 42
NEW_FILTER, GET_FILTER = 44, 46
REQUEST, ACK, DUMP, CREATE, EXCLUSIVE, REPLACE = 0x1, 0x4, 0x300, 0x400, 0x200, 0x100
_NEW_LINK, _GET_LINK = 16, 18
_ERROR, _DONE = 2, 3
_KIND, _OPTIONS = 1, 2
ROOT = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_TCMSG = struct.Struct("=BxxxiIII")
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, mask of changed flags
_RECEIVE_BYTES = 2**18
_TIMEOUT_S = 10.0


def attribute(number: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(payload), number) + payload + bytes(-len(payload) % 4)


def attributes(raw: bytes) -> dict[int, bytes]:
    """Attributes by number, flags of the number taken off."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(raw):
        length, number = struct.unpack_from("=HH", raw, offset)
        if length < 4:
            break
        found[number & 0x3FFF] = raw[offset + 4 : offset + length]
        offset += length + -length % 4
    return found


@dataclass(frozen=True)
class Traffic:
    """A qdisc, class or filter: where it hangs, its kind, and its options as the kernel has them."""

    index: int
    handle: int
    parent: int
    kind: str
    options: bytes = b""
    info: int = 0

    def encoded(self) -> bytes:
        """The message without its header."""
        kind = attribute(_KIND, self.kind.encode() + b"\0") if self.kind else b""
        options = attribute(_OPTIONS, self.options) if self.kind else b""
        return _TCMSG.pack(0, self.index, self.handle, self.parent, self.info) + kind + options

    def as_json(self) -> dict[str, str | int]:
        """Fields that JSON can hold."""
        return dataclasses.asdict(self) | {"options": self.options.hex()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """From what `as_json` gave."""
        return cls(**fields | {"options": bytes.fromhex(fields["options"])})

    @classmethod
    def decoded(cls, raw: bytes) -> Self:
        """From the message without its header."""
        _, index, handle, parent, info = _TCMSG.unpack_from(raw)
        found = attributes(raw[_TCMSG.size :])
        kind = found.get(_KIND, b"").rstrip(b"\0").decode(errors="replace")
        return cls(index, handle, parent, kind, found.get(_OPTIONS, b""), info)


def require_linux() -> None:
    """Raise HwrunError where the kernel has no traffic control to talk to."""
    if not hasattr(socket, "AF_NETLINK"):
        raise HwrunError(f"shaping: got {sys.platform}, expected Linux, whose kernel shapes; leave the link unshaped")


class TrafficSocket:
    """A netlink socket of the network namespace that the calling thread is in. Use it as a context manager."""

    def __init__(self) -> None:
        require_linux()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.settimeout(_TIMEOUT_S)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def change(self, kind: int, traffic: Traffic, flags: int = 0) -> None:
        """Add, replace or delete; done when this returns.

        Raises
        ------
        OSError : the kernel refuses, with its errno.
        """
        for _ in self._exchange(kind, traffic.encoded(), REQUEST | ACK | flags):
            pass

    def dump(self, kind: int, index: int, parent: int = 0) -> list[Traffic]:
        """Everything of this kind (`GET_…`) on an interface; filters below `parent`."""
        asked = Traffic(index, 0, parent, "")
        found = [Traffic.decoded(raw) for raw in self._exchange(kind, asked.encoded(), REQUEST | DUMP)]
        return [one for one in found if one.index == index]  # qdiscs come for all interfaces

    def link(self, index: int) -> dict[int, bytes]:
        """Attributes of an interface (IFLA_…)."""
        (raw,) = self._exchange(_GET_LINK, _IFINFO.pack(0, 0, index, 0, 0), REQUEST)
        return attributes(raw[_IFINFO.size :])

    def change_link(self, index: int, raw: bytes) -> None:
        """Set these attributes of an interface."""
        for _ in self._exchange(_NEW_LINK, _IFINFO.pack(0, 0, index, 0, 0) + raw, REQUEST | ACK):
            pass

    def _exchange(self, kind: int, body: bytes, flags: int) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            received = self._socket.recv(_RECEIVE_BYTES)
            offset = 0
            while offset + _HEADER.size <= len(received):
                length, answer, _, sequence, _ = _HEADER.unpack_from(received, offset)
                payload = received[offset + _HEADER.size : offset + length]
                offset += length + -length % 4
                if sequence != self._sequence:
                    continue  # what is left of an exchange that was given up
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(code, os.strerror(code) if code != errno.ENOENT else "unknown kind or none there")
                    return
                yield payload
                if not flags & (ACK | DUMP):
                    return  # one answer, and no acknowledgement after it


def link_attributes(index: int) -> dict[int, bytes]:
    """Attributes of an interface of the calling thread's network namespace."""
    with TrafficSocket() as netlink:
        return netlink.link(index)


def change_link(index: int, raw: bytes) -> None:
    """Set attributes of an interface of the calling thread's network namespace."""
    with TrafficSocket() as netlink:
        netlink.change_link(index, raw)
