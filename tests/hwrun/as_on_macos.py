"""A process that lacks what Linux alone has, as one on macOS would: run as a module, with a command of hwrun's.

No Mac takes part, so what macOS does otherwise is not seen; what it does not have is.
"""

import contextlib
import ctypes
import os
import pathlib
import select
import socket
import sys

# Theirs is the choice of platform when they load, and they have one for macOS.
import psutil  # noqa: F401
import torch  # noqa: F401
import torchvision.models  # noqa: F401

# Of <netinet/tcp.h> and <sys/socket.h> there, as Python has them.
_TCP_OF_MACOS = {"TCP_NODELAY", "TCP_MAXSEG", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_FASTOPEN", "TCP_NOTSENT_LOWAT"}
_FAMILIES_OF_MACOS = {"AF_INET", "AF_INET6", "AF_UNIX", "AF_UNSPEC"}
_OF_LINUX = {
    os: ("sched_", "setns", "unshare", "pidfd_", "memfd_", "eventfd", "posix_fadvise", "fdatasync", "splice"),
    select: ("epoll", "EPOLL", "POLLRDHUP"),
    socket: ("NETLINK_", "PACKET_", "SO_BINDTODEVICE", "SO_MARK", "SO_PEERCRED", "SO_PRIORITY", "SO_DOMAIN"),
}
_CALLS_OF_LINUX = {"prctl", "adjtimex", "setns", "unshare", "sched_setaffinity"}


class _Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in _CALLS_OF_LINUX:
            raise AttributeError(name)
        return super().__getattr__(name)


def _only_elsewhere(read):
    def reading(path, *arguments, **options):
        if path.parts[:2] in (("/", "proc"), ("/", "sys")):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return read(path, *arguments, **options)

    return reading


def without_linux():
    """Take away what macOS does not have."""
    socket.TCP_KEEPALIVE = socket.TCP_KEEPIDLE  # its name there
    for module, prefixes in _OF_LINUX.items():
        for name in [name for name in vars(module) if name.startswith(prefixes)]:
            delattr(module, name)
    for name in list(vars(socket)):
        kept = _TCP_OF_MACOS | {"TCP_KEEPALIVE"} if name.startswith("TCP_") else _FAMILIES_OF_MACOS
        if name.startswith(("TCP_", "AF_")) and name not in kept:
            delattr(socket, name)
    ctypes.CDLL = _Library
    for name in ("read_text", "read_bytes", "open"):
        setattr(pathlib.Path, name, _only_elsewhere(getattr(pathlib.Path, name)))
    sys.platform = "darwin"
    sys.modules["pyroute2"] = None  # an import fails


if __name__ == "__main__":
    without_linux()
    from hwrun.cli import main

    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
