"""Two hosts on one machine, and two paths between them: a direct one and one through the packet relay.

    A ── direct ─────────────────── direct ── B      10.98.0.0/24, unshaped, offloads on
    A ── relayed ── toA [relay] toB ── relayed ── B  10.99.0.0/24, shaped each way

The rate limit stands one hop behind each sender, as it does in a real network: on the sender's own egress TCP would
notice the queue and hold back, and no queue would build. Everything lives in anonymous namespaces and in children
that die with this process, so there is nothing to clean up after a crash.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Literal, Self

from hwrun.errors import BadUsageError, HwrunError, NotPermittedError
from hwrun.local import wiring
from hwrun.local.departure_queue import DEFAULT_LIMIT_BYTES, shapes_of
from hwrun.local.namespace_entry import entry_command
from hwrun.local.namespaces import NetworkNamespace, availability
from hwrun.local.relay_process import RelayProcess
from paretosim.link import Link

Medium = Literal["loopback", "veth", "relay"]
LOOPBACK_ADDRESS = "127.0.0.1"
_DIRECT, _RELAYED = "direct", "relayed"
_SYSCTLS = (
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
# How long a spawned program may take to end when asked, before it is killed.
_END_TIMEOUT_S = 2.0


class Children:
    """Processes started from one lasting thread, each of which the kernel kills when that thread ends.

    The kernel's tie (PR_SET_PDEATHSIG) is to the starting thread, so a child started from a short-lived one would die
    with it; and if this whole process is killed, the thread ends too.
    """

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hwrun-children")
        self._started: list[subprocess.Popen[Any]] = []
        # A thread begins in the namespace of the one that makes it: now, and not wherever the first child is asked for.
        self._starter.submit(lambda: None).result()

    def start(
        self, argv: Sequence[str], namespace: NetworkNamespace | None, **popen_kwargs: Any
    ) -> subprocess.Popen[Any]:
        """Start a program, inside the namespace if there is one."""
        options = ["--parent", str(os.getpid())]
        passed = set(popen_kwargs.pop("pass_fds", ()))
        if namespace is not None:
            options += ["--namespace-fd", str(namespace.fileno())]
            passed.add(namespace.fileno())
        command = entry_command(*options, "--", *argv)

        def start() -> subprocess.Popen[Any]:
            child = subprocess.Popen(command, pass_fds=tuple(passed), **popen_kwargs)
            self._started.append(child)
            return child

        return self._starter.submit(start).result()

    def close(self) -> None:
        """End those still running, first by asking. Closing twice is harmless."""
        running = [child for child in self._started if child.poll() is None]
        for child in running:
            child.terminate()
        for child in running:
            try:
                child.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._starter.shutdown()


class Host:
    """One end of the testbed; `name` is A or B."""

    def __init__(self, testbed: LocalTestbed, name: str, number: int, namespace: NetworkNamespace | None) -> None:
        self.name = name
        self._testbed, self._number, self._namespace = testbed, number, namespace

    def __repr__(self) -> str:
        return f"Host({self.name})"

    def address(self, link: Link | None) -> str:
        """Where it listens for data that take this link: on the relayed path, or on the unshaped one for None."""
        medium = self._testbed.medium(link)
        if medium == "loopback":
            return LOOPBACK_ADDRESS
        return _address(medium, self._number)

    def entered(self) -> AbstractContextManager[None]:
        """The calling thread is on this host: sockets it makes there stay there. It returns on exit."""
        self._testbed.check_usable()
        return contextlib.nullcontext() if self._namespace is None else self._namespace.entered()

    def spawn(self, argv: Sequence[str], **popen_kwargs: Any) -> subprocess.Popen[Any]:
        """Start a program on this host; it is killed when the testbed is closed or this process ends.

        The process id is the program's. A program that is not found ends with code 127 and a line on stderr, as in
        a shell. `preexec_fn` is not for here: it can deadlock beside threads.
        """
        self._testbed.check_usable()
        return self._testbed.children.start(argv, self._namespace, **popen_kwargs)


def _address(medium: Medium, number: int) -> str:
    return f"10.{98 if medium == 'veth' else 99}.0.{number}"


def _mac(medium: Medium, number: int) -> str:
    # Locally administered; the same in every testbed, since no two share a namespace.
    return f"02:00:0a:{98 if medium == 'veth' else 99:02x}:00:{number:02x}"


class LocalTestbed:
    """Two hosts on this machine. Use it as a context manager; a closed one is not opened again.

    Parameters
    ----------
    shaped : with namespaces and the relay; without, both hosts are the current namespace on loopback, which needs
        no rights at all.
    seed : of the delays and losses that links with jitter or loss draw.
    slow_start_after_idle : let TCP shrink its window while idle, as Linux does by default. Off, a connection stays
        warm, which is what `tcp_state: warm` of a record says.
    """

    def __init__(self, shaped: bool, *, seed: int = 0, slow_start_after_idle: bool = False) -> None:
        self._shaped, self._seed = shaped, seed
        self._slow_start_after_idle = slow_start_after_idle
        self._namespaces: tuple[NetworkNamespace, ...] = ()
        self._relay: RelayProcess | None = None
        self._resources = ExitStack()
        self._state: Literal["new", "open", "closed"] = "new"

    def __enter__(self) -> Self:
        if self._state != "new":
            raise HwrunError(f"local testbed: is {self._state}, expected a new one; make another")
        if self._shaped:
            _require_namespaces()
        self._state = "open"
        try:
            self.children = Children()
            self._resources.callback(self.children.close)
            if self._shaped:
                self._build()
        except BaseException:
            self.close()
            raise
        namespaces = self._namespaces[:2] or (None, None)
        self.hosts = (Host(self, "A", 1, namespaces[0]), Host(self, "B", 2, namespaces[1]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every child and let the namespaces go. Closing twice is harmless."""
        self._state = "closed"
        self._resources.close()

    def _build(self) -> None:
        for _ in range(3):
            namespace = NetworkNamespace.create()
            self._resources.callback(namespace.close)
            self._namespaces += (namespace,)
        a, b, router = self._namespaces
        for namespace in self._namespaces:
            _quiet(namespace)
        wiring.make_pair(a, _DIRECT, _mac("veth", 1), b, _DIRECT, _mac("veth", 2))
        wiring.make_pair(a, _RELAYED, _mac("relay", 1), router, "toA", _mac("relay", 101))
        wiring.make_pair(b, _RELAYED, _mac("relay", 2), router, "toB", _mac("relay", 102))
        for namespace, interface in ((a, _RELAYED), (b, _RELAYED), (router, "toA"), (router, "toB")):
            wiring.switch_offloads_off(namespace, interface)
        for interface in ("toA", "toB"):
            wiring.bring_up(router, interface)
        for namespace, here, there in ((a, 1, 2), (b, 2, 1)):
            wiring.write_sysctl(namespace, "net.ipv4.tcp_no_metrics_save", "1")
            idle = str(int(self._slow_start_after_idle))
            wiring.write_sysctl(namespace, "net.ipv4.tcp_slow_start_after_idle", idle)
            wiring.configure_host(namespace, (_cable("veth", here, there), _cable("relay", here, there)))

        def spawn(argv: Sequence[str], pass_fds: Sequence[int]) -> subprocess.Popen[bytes]:
            # A session of its own: Ctrl-C is for the owner, and where sessions share the processor fairly (autogroup)
            # the relay's share is not divided with the workers'.
            return self.children.start(
                argv, router, pass_fds=pass_fds, stdin=subprocess.DEVNULL, start_new_session=True
            )

        self._relay = RelayProcess(spawn, "toA", "toB")
        self._resources.callback(self._relay.close)

    def check_usable(self) -> None:
        """Raise HwrunError unless the testbed is open and its relay, if it has one, runs."""
        if self._state != "open":
            raise HwrunError(f"local testbed: is {self._state}, expected open; use it inside its with statement")
        if self._relay is not None:
            self._relay.check_alive()

    def medium(self, link: Link | None) -> Medium:
        """What carries data over this link: the relay, or for None what is not shaped."""
        self.check_usable()
        if self._relay is None:
            if link is not None:
                raise BadUsageError(
                    f"link {link.name}: got a local testbed without shaping, expected LocalTestbed(shaped=True)"
                )
            return "loopback"
        return "veth" if link is None else "relay"

    def shape(self, link: Link | None) -> None:
        """Set the relay to the link, A to B forward and B to A backward; it holds when this returns.

        None does nothing: what is unshaped takes the direct path. Frames under way are dropped if the link changes.
        """
        if self.medium(link) == "relay":
            assert link is not None
            assert self._relay is not None
            self._relay.shape(*shapes_of(link, self._seed))

    def relay_counters(self, *, reset: bool = False) -> dict[str, int | float]:
        """What the relay did since the last reset, per direction (`forward_…`, `backward_…`); empty without one.

        `frames` and `bytes` were passed on; `lost` were lost as the link asks. `drops` found the queue full, `flushed`
        were inside when the link changed, `overruns` came while the relay was not fast enough to read them: any of
        these three means that the link was not what was asked. `max_queued_bytes` waited for the rate,
        `max_lateness_s` is the worst delay of a release beyond its time, `busy_share` the relay's share of a core.
        """
        self.check_usable()
        return {} if self._relay is None else self._relay.counters(reset=reset)

    def description(self) -> dict[str, str | int | float | bool | None]:
        """What this testbed is, read back from the kernel, for a run's manifest."""
        self.check_usable()
        found: dict[str, str | int | float | bool | None] = {
            "kind": "local",
            "shaped": self._shaped,
            "kernel": platform.release(),
            "namespaces": availability().how if self._shaped else "none",
        }
        if self._relay is None:
            with contextlib.closing(NetworkNamespace.current()) as current:
                return found | _described("host", current, {"loopback": LOOPBACK_ADDRESS})
        a, b, _ = self._namespaces
        for number, name, namespace in ((1, "A", a), (2, "B", b)):
            far_addresses = {_DIRECT: _address("veth", 3 - number), _RELAYED: _address("relay", 3 - number)}
            found |= _described(name, namespace, far_addresses)
            found |= {f"{name}.{_DIRECT}.address": _address("veth", number)}
            found |= {f"{name}.{_RELAYED}.address": _address("relay", number)}
            for interface in (_DIRECT, _RELAYED):
                on = [offload for offload, is_on in wiring.offloads(namespace, interface).items() if is_on]
                found[f"{name}.{interface}.offloads"] = " ".join(on)
        found |= {f"relay.{name}": value for name, value in self._relay.properties.items() if name != "ready"}
        return found | {"relay.default_limit_bytes": DEFAULT_LIMIT_BYTES}


def _require_namespaces() -> None:
    found = availability()
    if found.how == "none":
        raise NotPermittedError(found.reason or "network namespaces are not permitted", found.remedy or "run as root")
    if found.needs_reexec:
        raise NotPermittedError(
            "network namespaces are permitted in a user namespace only, and this process is in none",
            "restart the command in one: unshare --user --map-root-user --net sh -c 'ip link set lo up; exec COMMAND'"
            " (reexec_in_user_namespace does)",
        )


def _quiet(namespace: NetworkNamespace) -> None:
    """No IPv6, whose neighbour and multicast chatter would be among the counted frames."""
    for name in ("net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"):
        if wiring.read_sysctls(namespace, (name,)):
            wiring.write_sysctl(namespace, name, "1")


def _cable(medium: Medium, here: int, there: int) -> wiring.Cable:
    return wiring.Cable(
        interface=_DIRECT if medium == "veth" else _RELAYED,
        address=_address(medium, here),
        mac=_mac(medium, here),
        far_address=_address(medium, there),
        far_mac=_mac(medium, there),
    )


def _described(name: str, namespace: NetworkNamespace, far_addresses: dict[str, str]) -> dict[str, str]:
    found = {f"{name}.{key}": value for key, value in wiring.read_sysctls(namespace, _SYSCTLS).items()}
    for path, far_address in far_addresses.items():
        found[f"{name}.{path}.congestion_control"] = wiring.congestion_control_of(namespace, far_address)
    return found
