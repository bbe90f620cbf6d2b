"""Start a program inside a network namespace, tied to the life of the process that asked for it.

Entering a namespace between fork and exec from Python (`preexec_fn`) can deadlock in a process that has threads, so a
child first runs this file, by its path and without site packages (`python -I -S`, about 15 ms): it enters the
namespace, asks the kernel to be killed with its parent, and becomes the program by exec, so that the process id that
the parent holds is the program's own. It therefore imports the standard library alone, nothing of this project.

`os.setns` and `os.unshare` came with Python 3.12; here is what 3.11 needs of them.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence

CLONE_NEWNET = 0x40000000  # sched.h
_PR_SET_PDEATHSIG, _PR_SET_TIMERSLACK = 1, 29  # prctl(2)
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1  # netdevice(7)
# rtnetlink(7): RTM_NEWLINK as request with acknowledgement that creates and must not find; a link's kind.
_RTM_NEWLINK, _NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 16, 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR, _IFLA_LINKINFO, _IFLA_INFO_KIND = 2, 18, 1
COMMAND_NOT_FOUND = 127  # as shells report it

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def unshare_network() -> None:
    """Move the calling thread into a network namespace of its own, new and empty."""
    _checked(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")


def enter_network(namespace_fd: int) -> None:
    """Move the calling thread into the network namespace that the file descriptor refers to."""
    _checked(_libc.setns(namespace_fd, CLONE_NEWNET), "setns(CLONE_NEWNET)")


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; end now if it has ended already."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        sys.exit(f"the parent {parent_pid} ended before its child began")


def tighten_timers() -> None:
    """Let this thread's sleeps end within a nanosecond of what was asked, where the default slack is 50 µs."""
    _checked(_libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0), "prctl(PR_SET_TIMERSLACK)")


def bring_loopback_up() -> None:
    """Set the loopback interface of the calling thread's namespace up; a new namespace has it down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(handle, _SIOCGIFFLAGS, request), 16)[0]
        if not flags & _IFF_UP:
            fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def try_network_namespace() -> None:
    """Do once what a local testbed does: a namespace, a pair of veth interfaces in it, a packet socket.

    The calling thread is left in that namespace, so it must be one that ends with this.

    Raises
    ------
    OSError : the first step that was refused, named, with the kernel's errno.
    """
    unshare_network()
    kind = struct.pack("HH4s", 8, _IFLA_INFO_KIND, b"veth")
    body = struct.pack("BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0) + struct.pack("HH", 4 + len(kind), _IFLA_LINKINFO) + kind
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_EXCL | _NLM_F_CREATE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWLINK, flags, 1, 0) + body)
        answer = netlink.recv(4096)
    code = -struct.unpack_from("i", answer, 16)[0] if struct.unpack_from("H", answer, 4)[0] == _NLMSG_ERROR else 0
    if code != 0:
        raise OSError(code, f"creating a veth interface: {os.strerror(code)}")
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        raise OSError(error.errno, f"opening a packet socket: {error.strerror}") from error


def entry_command(*options: str) -> list[str]:
    """The command that runs this file with these options."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *options]  # noqa: PTH100 - pathlib costs 10 ms here


def main(argv: Sequence[str]) -> int:
    """Enter, tie, exec; or `--try` alone, which exits 0 or says on stderr what was refused."""
    parser = argparse.ArgumentParser(prog="namespace_entry", allow_abbrev=False)
    parser.add_argument("--try", dest="only_try", action="store_true", help="try to make a namespace, and end")
    parser.add_argument("--namespace-fd", type=int, help="file descriptor of the network namespace to enter")
    parser.add_argument("--parent", type=int, help="process to die with")
    parser.add_argument("--loopback-up", action="store_true", help="set lo up first")
    parser.add_argument("command", nargs="*", help="program and its arguments, after --")
    arguments = parser.parse_args(argv)
    try:
        if arguments.only_try:
            try_network_namespace()
            return 0
        if arguments.parent is not None:
            die_with_parent(arguments.parent)
        if arguments.namespace_fd is not None:
            enter_network(arguments.namespace_fd)
            os.close(arguments.namespace_fd)
        if arguments.loopback_up:
            bring_loopback_up()
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return error.errno or errno.EPERM
    # Python ignores these two, and what is ignored stays so across exec.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(arguments.command[0], arguments.command)
    except OSError as error:
        print(f"{arguments.command[0]}: {error.strerror}", file=sys.stderr)
        return COMMAND_NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
