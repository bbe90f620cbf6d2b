"""Hosts on one machine, and two paths between any two of them: a direct one and one through the packet relay.

    A ── direct ─────────────────── direct ── B      10.98.0.x, unshaped, offloads on
    A ── relayed ── toA [relay] toB ── relayed ── B  10.99.0.x, shaped each way

Every pair of hosts that data cross has cables of its own, and a relay of its own. The rate limit stands one hop behind
each sender, as it does in a real network: on the sender's own egress TCP would notice the queue and hold back, and no
queue would build. Everything lives in anonymous namespaces and in children that die with this process, so there is
nothing to clean up after a crash.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Literal, Self

from hwrun.errors import BadUsageError, HwrunError, NotPermittedError
from hwrun.local import wiring
from hwrun.local.children import Children
from hwrun.local.departure_queue import DEFAULT_LIMIT_BYTES, shapes_of
from hwrun.local.namespaces import NetworkNamespace, availability
from hwrun.local.relay_process import RelayProcess
from hwrun.records import Medium, Scalar
from paretosim.link import Link

LOOPBACK_ADDRESS = "127.0.0.1"
# Letters to name them by; a machine is full long before.
MAX_HOSTS = 26
_DIRECT, _RELAYED = "direct", "relayed"
_SYSCTLS = (
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)


class Host:
    """One end of a path; `name` is A, B …"""

    def __init__(self, testbed: LocalTestbed, name: str, number: int, namespace: NetworkNamespace | None) -> None:
        self.name = name
        self._testbed, self._number, self._namespace = testbed, number, namespace

    def __repr__(self) -> str:
        return f"Host({self.name})"

    def address(self, link: Link | None) -> str:
        """Where others dial it for data that take this link: on the relayed path, or on the unshaped one for None."""
        medium = self._testbed.outside(link)
        if medium == "loopback":
            return LOOPBACK_ADDRESS
        return _address(medium, self._number)

    @property
    def steered_address(self) -> str:
        """Where it listens for good; `LocalTestbed.steer` says what carries data to it."""
        return self._testbed.relayed_address(self._number)

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


def _mac(medium: Medium, number: int, towards: int) -> str:
    # Locally administered; the same in every testbed, since no two share a namespace.
    return f"02:00:0a:{98 if medium == 'veth' else 99:02x}:{towards:02x}:{number:02x}"


class LocalTestbed:
    """Hosts on this machine. Use it as a context manager; a closed one is not opened again.

    Parameters
    ----------
    shaped : with namespaces and the relay; without, all hosts are the current namespace on loopback, which needs
        no rights at all.
    names : of the hosts. Neighbours are joined from the start, other pairs when a link between them is shaped or used.
    seed : of the delays and losses that links with jitter or loss draw.
    slow_start_after_idle : let TCP shrink its window while idle, as Linux does by default. Off, a connection stays
        warm, which is what `tcp_state: warm` of a record says.
    beside_computing : whether stages compute on cores that the relays share (`RelayProcess`).
    """

    def __init__(
        self,
        shaped: bool,
        *,
        names: Sequence[str] = ("A", "B"),
        seed: int = 0,
        slow_start_after_idle: bool = False,
        beside_computing: bool = False,
    ) -> None:
        if not 1 <= len(names) <= MAX_HOSTS or len(set(names)) != len(names):
            raise BadUsageError(f"hosts: got {', '.join(names)}, expected 1 to {MAX_HOSTS} different names")
        self.names = tuple(names)
        self._shaped, self._seed = shaped, seed
        self._slow_start_after_idle = slow_start_after_idle
        self._beside_computing = beside_computing
        self._namespaces: tuple[NetworkNamespace, ...] = ()
        self._router: NetworkNamespace | None = None
        self._relays: dict[tuple[int, int], RelayProcess] = {}
        self._steered: set[tuple[int, ...]] = set()
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
        namespaces = self._namespaces or (None,) * len(self.names)
        self.hosts = tuple(
            Host(self, name, number, namespace)
            for number, (name, namespace) in enumerate(zip(self.names, namespaces, strict=True), start=1)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every child and let the namespaces go. Closing twice is harmless."""
        self._state = "closed"
        self._resources.close()

    def host(self, name: str) -> Host:
        """The host of that name."""
        return self.hosts[self._index(name)]

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise BadUsageError(f"host: got {name}, expected one of {', '.join(self.names)}")
        return self.names.index(name)

    def _build(self) -> None:
        for _ in self.names:
            self._namespaces += (self._namespace(),)
        self._router = self._namespace()
        for namespace in self._namespaces:
            _quiet(namespace)
            wiring.write_sysctl(namespace, "net.ipv4.tcp_no_metrics_save", "1")
            idle = str(int(self._slow_start_after_idle))
            wiring.write_sysctl(namespace, "net.ipv4.tcp_slow_start_after_idle", idle)
            wiring.configure_host(namespace, ())
        _quiet(self._router)
        for first in range(len(self.names) - 1):
            self._join(first, first + 1)

    def _namespace(self) -> NetworkNamespace:
        namespace = NetworkNamespace.create()
        self._resources.callback(namespace.close)
        return namespace

    def _join(self, first: int, second: int) -> None:
        """Lay the direct cable and the relayed ones between two hosts, by index, and start their relay."""
        router = self._router
        assert router is not None  # _build made it
        ends = ((first + 1, second + 1), (second + 1, first + 1))
        namespaces = (self._namespaces[first], self._namespaces[second])
        names = [(_interface(_DIRECT, there), _interface(_RELAYED, there)) for _, there in ends]
        wiring.make_pair(
            namespaces[0], names[0][0], _mac("veth", *ends[0]), namespaces[1], names[1][0], _mac("veth", *ends[1])
        )
        ports = [f"to{here}from{there}" for here, there in ends]
        for namespace, (_, interface), (here, there), port in zip(namespaces, names, ends, ports, strict=True):
            wiring.make_pair(
                namespace, interface, _mac("relay", here, there), router, port, _mac("relay", here + 100, there)
            )
            for where, name in ((namespace, interface), (router, port)):
                wiring.switch_offloads_off(where, name)
            wiring.bring_up(router, port)
        for namespace, (here, there) in zip(namespaces, ends, strict=True):
            wiring.configure_host(namespace, (_cable("veth", here, there), _cable("relay", here, there)))

        def spawn(argv: Sequence[str], pass_fds: Sequence[int]) -> subprocess.Popen[bytes]:
            # A session of its own: Ctrl-C is for the owner, and where sessions share the processor fairly (autogroup)
            # the relay's share is not divided with the workers'.
            return self.children.start(
                argv, router, pass_fds=pass_fds, stdin=subprocess.DEVNULL, start_new_session=True
            )

        relay = RelayProcess(spawn, ports[0], ports[1], beside_computing=self._beside_computing)
        self._relays[first, second] = relay
        self._resources.callback(relay.close)

    def _relay_of(self, first: int, second: int) -> RelayProcess:
        pair = (min(first, second), max(first, second))
        if pair not in self._relays:
            self._join(*pair)
        return self._relays[pair]

    def check_usable(self) -> None:
        """Raise HwrunError unless the testbed is open and its relays, if it has any, run."""
        if self._state != "open":
            raise HwrunError(f"local testbed: is {self._state}, expected open; use it inside its with statement")
        for relay in self._relays.values():
            relay.check_alive()

    def outside(self, link: Link | None) -> Medium:
        """What carries data over this link to another host: the relay, or for None what is not shaped."""
        self.check_usable()
        if not self._shaped:
            if link is not None:
                raise BadUsageError(
                    f"link {link.name}: got a local testbed without shaping, expected LocalTestbed(shaped=True)"
                )
            return "loopback"
        return "veth" if link is None else "relay"

    def relayed_address(self, number: int) -> str:
        """The address on the relayed path of a host by number, loopback's where there is none."""
        self.check_usable()
        return _address("relay", number) if self._shaped else LOOPBACK_ADDRESS

    def medium(self, start: str, end: str, link: Link | None) -> Medium:
        """What carries data from one host to another over this link."""
        return "loopback" if start == end else self.outside(link)

    def shape(self, links: Mapping[tuple[str, str], Link], *, any_port: bool = False, hold_s: float = 0.0) -> None:
        """Set the relay of each pair of hosts to its link, forward from the first of the pair; it holds on return.

        Frames under way are dropped if the link changes. What is unshaped takes the direct path. A relay knows no
        ports, so `any_port` changes nothing.
        """
        self.check_usable()
        self.steer(())
        for (start, end), link in links.items():
            self.outside(link)
            first, second = self._index(start), self._index(end)
            shapes = shapes_of(link, self._seed)
            self._relay_of(first, second).shape(*(shapes if first < second else reversed(shapes)))

    def steer(self, direct: Collection[tuple[str, str]]) -> None:
        """Let what is sent to relayed addresses take the direct cable between these pairs of hosts, and no others.

        For a program that listens at one address for good, as TensorPipe does, while its hops are shaped now and
        unshaped then. `shape` ends it.
        """
        wanted = {tuple(sorted((self._index(start), self._index(end)))) for start, end in direct} & self._relays.keys()
        for first, second in wanted ^ self._steered:
            medium: Medium = "veth" if (first, second) in wanted else "relay"
            for here, there in ((first, second), (second, first)):
                cable = _cable(medium, here + 1, there + 1)
                addresses = _address("relay", there + 1), _address("relay", here + 1)
                wiring.steer(self._namespaces[here], cable, *addresses)
        self._steered = wanted

    def join(self, start: str, end: str) -> None:
        """Lay cables between two hosts, where there are none yet."""
        first, second = self._index(start), self._index(end)
        if self._shaped and first != second:
            self._relay_of(first, second)

    def counters(self, *, reset: bool = False) -> dict[str, int | float]:
        """What the relays did since the last reset, per direction (`forward_…`, `backward_…`); empty without one.

        `frames` and `bytes` were passed on; `lost` were lost as the link asks. `drops` found the queue full, `flushed`
        were inside when the link changed, `overruns` came while the relay was not fast enough to read them: any of
        these three means that the link was not what was asked. `max_queued_bytes` waited for the rate,
        `max_lateness_s` is the worst delay of a release beyond its time, `busy_share` the relay's share of a core. With
        several relays each name begins with its pair's, such as `A-B.`.
        """
        self.check_usable()
        found: dict[str, int | float] = {}
        for (first, second), relay in self._relays.items():
            prefix = f"{self.names[first]}-{self.names[second]}." if len(self._relays) > 1 else ""
            found |= {f"{prefix}{name}": value for name, value in relay.counters(reset=reset).items()}
        return found

    def description(self) -> dict[str, Scalar]:
        """What this testbed is, read back from the kernel, for a run's manifest."""
        self.check_usable()
        found: dict[str, Scalar] = {
            "kind": "local",
            "shaped": self._shaped,
            "hosts": ",".join(self.names),
            "kernel": platform.release(),
            "namespaces": availability().how if self._shaped else "none",
        }
        if not self._shaped:
            with contextlib.closing(NetworkNamespace.current()) as current:
                return found | _described("host", current, {"loopback": LOOPBACK_ADDRESS})
        for first, second in self._relays:
            for here, there in ((first, second), (second, first)):
                name = self.names[here]
                # One neighbour needs no naming.
                paths = {
                    path: path if len(self._relays) == 1 else f"{path}-{self.names[there]}"
                    for path in (_DIRECT, _RELAYED)
                }
                media: tuple[tuple[str, Medium], ...] = ((_DIRECT, "veth"), (_RELAYED, "relay"))
                far = {paths[path]: _address(medium, there + 1) for path, medium in media}
                found |= _described(name, self._namespaces[here], far)
                for path, medium in media:
                    found[f"{name}.{paths[path]}.address"] = _address(medium, here + 1)
                    on = wiring.offloads(self._namespaces[here], _interface(path, there + 1))
                    found[f"{name}.{paths[path]}.offloads"] = " ".join(
                        offload for offload, is_on in on.items() if is_on
                    )
        for relay in self._relays.values():
            found |= {f"relay.{name}": value for name, value in relay.properties.items() if name != "ready"}
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


def _interface(path: str, towards: int) -> str:
    """Name of the interface at a host's end of its cable to host number `towards`."""
    return f"{path}{towards}"


def _cable(medium: Medium, here: int, there: int) -> wiring.Cable:
    return wiring.Cable(
        interface=_interface(_DIRECT if medium == "veth" else _RELAYED, there),
        address=_address(medium, here),
        mac=_mac(medium, here, there),
        far_address=_address(medium, there),
        far_mac=_mac(medium, there, here),
    )


def _described(name: str, namespace: NetworkNamespace, far_addresses: dict[str, str]) -> dict[str, str]:
    found = {f"{name}.{key}": value for key, value in wiring.read_sysctls(namespace, _SYSCTLS).items()}
    for path, far_address in far_addresses.items():
        found[f"{name}.{path}.congestion_control"] = wiring.congestion_control_of(namespace, far_address)
    return found
