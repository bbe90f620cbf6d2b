"""What the kernel keeps of processes that are gone: sockets (and with them ports), network namespaces, interfaces.

A namespace lives, with its interfaces and their qdiscs, as long as a thread is in it, a descriptor is open on it or it
is mounted; a listener keeps its port as long as anybody has a descriptor of it. So whoever notes what the processes of
a sweep hold while they run can tell afterwards, from /proc alone, that nobody holds any of it still.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hwrun.local.namespaces import NetworkNamespace
from hwrun.shaping import kernel

# Where a namespace shows a socket that nobody may have a descriptor of any more, such as one that is closing.
_PORT_TABLES = ("tcp", "tcp6", "udp", "udp6")
_SOCKET_TABLES = (*_PORT_TABLES, "unix")
# Where `ip netns` keeps its names (ip-netns(8)).
_NAMED_NAMESPACES = Path("/run/netns")
# A state of TCP's in those tables (include/net/tcp_states.h).
_LISTENING = "0A"


class Holdings:
    """Sockets and network namespaces that processes were seen to hold, other than those that this process is in.

    The kernel numbers a new namespace as one that is gone; so each that was seen is kept by a descriptor here, and
    whoever else is found to hold its number holds that very one. A socket's number does not come again.
    """

    def __init__(self) -> None:
        self._own = str(Path("/proc/self/ns/net").readlink())
        self._sockets: set[str] = set()
        self._namespaces: dict[str, int] = {}

    @property
    def counts(self) -> tuple[int, int]:
        """How many sockets and how many namespaces were seen."""
        return len(self._sockets), len(self._namespaces)

    def note(self, process_id: int) -> None:
        """Add what this process, with all its threads, holds now."""
        for name, link in _links(Path("/proc", str(process_id))):
            if name.startswith("socket:["):
                self._sockets.add(name)
            elif name.startswith("net:[") and name not in (self._own, *self._namespaces):
                with contextlib.suppress(OSError):  # it is gone
                    descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
                    # Under the name of what was opened: the link may lead elsewhere by now.
                    kept = self._namespaces.setdefault(os.readlink(f"/proc/self/fd/{descriptor}"), descriptor)  # noqa: PTH115 - no path of a file
                    if kept != descriptor:
                        os.close(descriptor)

    def still_held(self) -> dict[str, str]:
        """Those that are there although not for us, and where: in which process, mounted, or in which table."""
        noted = self._sockets | self._namespaces.keys()
        found: dict[str, str] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            if folder.name != str(os.getpid()):
                found |= {name: f"process {folder.name}" for name, _ in _links(folder) if name in noted}
        mounts = Path("/proc/self/mountinfo").read_text()
        found |= {name: "mounted" for name in self._namespaces if name in mounts}
        for table in _SOCKET_TABLES:
            path = Path("/proc/self/net", table)
            words = set(path.read_text().split()) if path.exists() else set()
            found |= {name: str(path) for name in self._sockets if name[len("socket:[") : -1] in words}
        return found

    def open_ports(self) -> list[str]:
        """TCP ports that somebody listens at, and UDP ports, in the namespaces that were seen, as their tables say."""
        found: list[str] = []
        for descriptor in self._namespaces.values():
            found += NetworkNamespace(descriptor).run(_open_ports)
        return found

    def close(self) -> None:
        """Let the namespaces go."""
        for descriptor in self._namespaces.values():
            os.close(descriptor)
        self._namespaces.clear()


def interfaces() -> dict[str, bool]:
    """Every interface of this namespace, and whether its qdiscs are as the kernel made them."""
    return {name: kernel.read(name).is_default for _, name in socket.if_nameindex()}


def named_namespaces() -> frozenset[str]:
    """What `ip netns` lists."""
    return frozenset(path.name for path in _NAMED_NAMESPACES.glob("*"))


def processes_with(variable: str, value: str) -> dict[int, str]:
    """The command of every process that was started with this value of an environment variable."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone, or another user's
            if f"{variable}={value}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


def waited_for_a_core_s(process_id: int) -> float:
    """How long a process's main thread has been able to run, and waited for a core; 0 where the kernel does not say."""
    try:
        _, waited_ns, _ = Path(f"/proc/{process_id}/schedstat").read_text().split()
    except (OSError, ValueError):  # it is gone, or such a kernel
        return 0.0
    return int(waited_ns) / 1e9


def _open_ports() -> list[str]:
    """Those of the namespace that the calling thread is in."""
    found = []
    for table in _PORT_TABLES:
        path = Path("/proc/thread-self/net", table)
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            _, address, _, state, *_ = line.split()
            if table.startswith("udp") or state == _LISTENING:
                found.append(f"{table} {int(address.rpartition(':')[2], 16)}")
    return found


def _links(process: Path) -> Iterator[tuple[str, Path]]:
    for pattern in ("fd/*", "task/*/ns/net"):
        links: list[Path] = []
        with contextlib.suppress(OSError):  # the process is gone, or another user's
            links += process.glob(pattern)
        for link in links:
            with contextlib.suppress(OSError):  # this thread or descriptor is
                yield str(link.readlink()), link
