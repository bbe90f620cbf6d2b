"""Network namespaces that need no cleaning up, and whether this host permits them.

A namespace here has no name in the file system: a helper thread unshares it, and the process keeps it by a file
descriptor of that thread's `ns/net`. It vanishes with the last process that is in it or holds it, so even a killed
sweep leaves nothing behind (network_namespaces(7)). Namespaces belong to threads: entering one leaves other threads be.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from hwrun.errors import NotPermittedError
from hwrun.local.namespace_entry import enter_network, entry_command, try_network_namespace, unshare_network

How = Literal["root", "userns", "none"]
# Set in the environment of a command that restarted itself in a user namespace, so that it does so once.
USER_NAMESPACE_MARK = "HWRUN_IN_USER_NAMESPACE"
_TRIAL_TIMEOUT_S = 30.0
_RUN_AS_ROOT = (
    "run as root (in a container: with --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add NET_RAW"
    " and a seccomp profile that lets unshare through)"
)
# What withholds user namespaces, the value that does, and what lifts it.
_WITHHOLDERS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
    ("user/max_net_namespaces", "0", "sysctl -w user.max_net_namespaces=10000"),
)
T = TypeVar("T")


@dataclass(frozen=True)
class Availability:
    """Whether shaped links can be had here.

    Parameters
    ----------
    how : `root`: with the rights this process has over the host; `userns`: with those it has, or would have, in a
        user namespace of its own; `none`: not at all.
    needs_reexec : in `userns`, that the command must first restart itself (`reexec_in_user_namespace`).
    reason, remedy : in `none`, what was refused and what would lift it.
    """

    how: How
    needs_reexec: bool = False
    reason: str | None = None
    remedy: str | None = None


@functools.cache
def availability() -> Availability:
    """Try, once per process, to make a namespace, a veth pair and a packet socket; nothing of it remains."""
    if sys.platform != "linux":
        return Availability("none", reason=f"{sys.platform} has no network namespaces", remedy="use a Linux machine")
    try:
        in_helper_thread(try_network_namespace)
    except OSError as error:
        refusal = error.strerror or str(error)
    else:
        return Availability("userns" if in_user_namespace() else "root")
    if os.environ.get(USER_NAMESPACE_MARK):
        return _refused(f"not permitted inside the user namespace either: {refusal}")
    unshare = shutil.which("unshare")
    if unshare is None:
        return _refused(f"{refusal}; and there is no unshare program to enter a user namespace with", "util-linux")
    try:
        trial = subprocess.run(
            [unshare, "--user", "--map-root-user", "--net", *entry_command("--try")],
            check=False,
            capture_output=True,
            text=True,
            timeout=_TRIAL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _refused(f"{refusal}; in a user namespace: {error}")
    if trial.returncode != 0:
        return _refused(f"{refusal}; in a user namespace: {' '.join(trial.stderr.split()) or trial.returncode}")
    return Availability("userns", needs_reexec=True)


def _refused(reason: str, install: str | None = None) -> Availability:
    remedies = [command for name, value, command in _WITHHOLDERS if _sysctl(name) == value]
    if install:
        remedies.append(f"install {install}")
    remedy = f"{_RUN_AS_ROOT}; or permit user namespaces: {' and '.join(remedies)}" if remedies else _RUN_AS_ROOT
    return Availability("none", reason=f"network namespaces are not permitted here ({reason})", remedy=remedy)


def _sysctl(name: str) -> str | None:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return None


def in_user_namespace() -> bool:
    """Whether this process's user ids are mapped, so that its rights end at its own namespaces."""
    try:
        return Path("/proc/self/uid_map").read_text().split() != ["0", "0", str(2**32 - 1)]
    except OSError:  # a kernel without user namespaces
        return False


def reexec_in_user_namespace(argv: Sequence[str]) -> NoReturn:
    """Replace this process by the same Python in a user namespace, where it may make network namespaces.

    Files it writes stay the user's own. It has a network of its own there, with nothing but loopback, so whatever
    must be fetched has to be fetched before.

    Parameters
    ----------
    argv : arguments for the Python interpreter; `sys.orig_argv[1:]` restarts the running command as it is.

    Raises
    ------
    NotPermittedError : the host does not permit it, or this process is in one already and it did not help.
    """
    found = availability()
    if found.how == "none" or os.environ.get(USER_NAMESPACE_MARK):
        raise NotPermittedError(
            found.reason or "this process restarted itself in a user namespace already", found.remedy or _RUN_AS_ROOT
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.environ[USER_NAMESPACE_MARK] = "1"
    # --net: a thread that was inside a testbed's namespace can only return to one of this user namespace.
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    os.execvp(unshare[0], [*unshare, *entry_command("--loopback-up", "--", sys.executable, *argv)])


def in_helper_thread(function: Callable[[], T]) -> T:
    """Call it in a thread that ends with it, so that what it does to its thread's namespace ends too."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="hwrun-namespace") as helper:
        return helper.submit(function).result()


def _own_namespace_fd() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class NetworkNamespace:
    """A network namespace held by a file descriptor; closing it lets it go unless a process is still inside."""

    def __init__(self, namespace_fd: int) -> None:
        self._fd = namespace_fd

    @classmethod
    def create(cls) -> NetworkNamespace:
        """A new, empty namespace.

        Raises
        ------
        NotPermittedError : the kernel refuses.
        """

        def unshared() -> int:
            unshare_network()
            return _own_namespace_fd()

        try:
            return cls(in_helper_thread(unshared))
        except OSError as error:
            raise NotPermittedError(f"no network namespace could be made ({error.strerror})", _RUN_AS_ROOT) from error

    @classmethod
    def current(cls) -> NetworkNamespace:
        """The one the calling thread is in."""
        return cls(_own_namespace_fd())

    def fileno(self) -> int:
        """The file descriptor; raises ValueError once closed."""
        if self._fd < 0:
            raise ValueError("the network namespace is closed")
        return self._fd

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside; sockets it makes there stay there. It returns to where it was."""
        outside = _own_namespace_fd()
        try:
            enter_network(self.fileno())
            try:
                yield
            finally:
                enter_network(outside)
        finally:
            os.close(outside)

    def run(self, function: Callable[[], T]) -> T:
        """Call it in a helper thread inside, whose namespace nobody else sees."""

        def inside() -> T:
            # Whoever may enter no namespace may still stay in the one there is.
            if os.fstat(self.fileno()).st_ino != Path("/proc/thread-self/ns/net").stat().st_ino:
                enter_network(self.fileno())
            return function()

        return in_helper_thread(inside)

    def close(self) -> None:
        """Let go of it. Closing twice is harmless."""
        namespace_fd, self._fd = self._fd, -1
        if namespace_fd >= 0:
            os.close(namespace_fd)
