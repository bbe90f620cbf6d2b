"""Where to listen or dial."""

from __future__ import annotations

import ipaddress
import os

import msgspec

from hwrun.errors import BadUsageError

# sun_path of unix(7) without its closing zero.
MAX_PATH_BYTES = 107


class Address(msgspec.Struct, frozen=True):
    """Where to listen or dial: a host and port, or the path of a unix socket.

    >>> str(Address.parse("127.0.0.1:7000")), str(Address.parse("unix:/run/w"))
    ('127.0.0.1:7000', 'unix:/run/w')
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address written as `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path or len(os.fsencode(path)) > MAX_PATH_BYTES:
                raise BadUsageError(f"address: got {text!r}, expected unix: and a path of 1 to {MAX_PATH_BYTES} bytes")
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):  # ::1 is no host `:` with port 1
            raise BadUsageError(f"address: got {text!r}, expected an IPv6 address in brackets, such as [::1]:7070")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise BadUsageError(f"address: got {text!r}, expected HOST:PORT (port 0 to 65535) or unix:PATH")
        return cls(host=host, port=int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this host can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
