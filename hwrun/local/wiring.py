"""The cables of a local testbed: veth pairs between network namespaces, with routes, neighbours and offloads set.

Offloads go off on the relayed path because a packet socket would else see segments of 64 kB and checksums not yet
filled in. Neighbours are static so that the first packet pays no round trip for ARP. Congestion control is pinned on
the routes: it decides how a cold or idle connection speeds up, kernels differ in their default, and a route may say
so where the sysctl may not be written (a user namespace).
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hwrun.errors import HwrunError, NotPermittedError
from hwrun.local.namespaces import NetworkNamespace
from hwrun.machine.offloads import Offload, is_on, switch
from hwrun.machine.system_files import sysctl_path, sysctls

CONGESTION_CONTROL = "cubic"
_LOOPBACK_INDEX = 1
_SCOPE_LINK = 253  # RT_SCOPE_LINK (rtnetlink(7)): the far end is on the cable itself
_OFFLOADS: tuple[Offload, ...] = ("tx", "tso", "gso", "gro")


@dataclass(frozen=True)
class Cable:
    """One end of a veth pair as its host sees it: interface, own address and the address at the far end of the path.

    A host has one address a medium, whatever the number of its cables: they have no network of their own, only a route
    to the far host each.
    """

    interface: str
    address: str
    mac: str
    far_address: str
    far_mac: str


@contextlib.contextmanager
def _translated(step: str) -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]  # ships no types

    try:
        yield
    except (NetlinkError, OSError) as error:
        code = error.code if isinstance(error, NetlinkError) else error.errno
        if code in (errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP):
            raise NotPermittedError(
                f"{step}: {error}", "run as root or in a user namespace, on a kernel with veth (modprobe veth)"
            ) from error
        raise HwrunError(f"{step}: got {error}, expected the kernel to do it; is this kernel built with it?") from error


def _rtnetlink() -> Any:
    """A netlink socket of the namespace that the calling thread is in."""
    from pyroute2 import IPRoute  # type: ignore[import-untyped]  # ships no types; 0.2 s, so only where it is wanted

    return IPRoute()


def make_pair(here: NetworkNamespace, interface: str, mac: str, there: NetworkNamespace, peer: str, mac2: str) -> None:
    """A veth pair with one end in each namespace, both down."""

    def inside() -> None:
        far_end = {"ifname": peer, "address": mac2, "net_ns_fd": there.fileno()}
        with _rtnetlink() as netlink:
            netlink.link("add", ifname=interface, kind="veth", address=mac, peer=far_end)

    with _translated(f"veth pair {interface}–{peer}"):
        here.run(inside)


def bring_up(namespace: NetworkNamespace, interface: str) -> None:
    """Set an interface without addresses up."""

    def inside() -> None:
        with _rtnetlink() as netlink:
            netlink.link("set", index=socket.if_nametoindex(interface), state="up")

    with _translated(f"interface {interface}"):
        namespace.run(inside)


def configure_host(namespace: NetworkNamespace, cables: tuple[Cable, ...]) -> None:
    """Loopback and every cable up, addressed, routed with pinned congestion control, the far end a known neighbour."""

    def inside() -> None:
        with _rtnetlink() as netlink:
            netlink.link("set", index=_LOOPBACK_INDEX, state="up")
            for cable in cables:
                index = socket.if_nametoindex(cable.interface)
                netlink.link("set", index=index, state="up")
                netlink.addr("add", index=index, address=cable.address, prefixlen=32)
                netlink.neigh("replace", ifindex=index, dst=cable.far_address, lladdr=cable.far_mac, state="permanent")
                netlink.route(
                    "replace",
                    dst=f"{cable.far_address}/32",
                    oif=index,
                    scope=_SCOPE_LINK,
                    prefsrc=cable.address,
                    metrics={"cc_algo": CONGESTION_CONTROL},
                )

    with _translated("addresses and routes"):
        namespace.run(inside)


def steer(namespace: NetworkNamespace, cable: Cable, far_address: str, own_address: str) -> None:
    """Let packets from one of this host's addresses to one of the far host's take this cable from now on."""

    def inside() -> None:
        with _rtnetlink() as netlink:
            index = socket.if_nametoindex(cable.interface)
            netlink.neigh("replace", ifindex=index, dst=far_address, lladdr=cable.far_mac, state="permanent")
            netlink.route(
                "replace",
                dst=f"{far_address}/32",
                oif=index,
                scope=_SCOPE_LINK,
                prefsrc=own_address,
                metrics={"cc_algo": CONGESTION_CONTROL},
            )

    with _translated(f"route to {far_address}"):
        namespace.run(inside)


def switch_offloads_off(namespace: NetworkNamespace, interface: str) -> None:
    """No checksum, segmentation or receive offload on an interface, verified by reading back."""

    def inside() -> None:
        for name in _OFFLOADS:
            switch(interface, name, on=False)

    with _translated(f"offloads of {interface}"):
        namespace.run(inside)


def offloads(namespace: NetworkNamespace, interface: str) -> dict[str, bool]:
    """Which of tx, tso, gso and gro are on."""
    return namespace.run(lambda: {name: is_on(interface, name) for name in _OFFLOADS})


def read_sysctls(namespace: NetworkNamespace, names: tuple[str, ...]) -> dict[str, str]:
    """Settings under /proc/sys/net as a thread inside sees them, white space made single; absent ones are left out."""
    return namespace.run(lambda: sysctls(names))


def write_sysctl(namespace: NetworkNamespace, name: str, value: str) -> None:
    """Write a setting, unless it has that value already.

    Raises
    ------
    NotPermittedError : it may not be written.
    """

    def inside() -> None:
        path = sysctl_path(name)
        if path.read_text().strip() != value:
            path.write_text(value)

    with _translated(f"sysctl {name}={value}"):
        namespace.run(inside)


def congestion_control_of(namespace: NetworkNamespace, address: str) -> str:
    """Congestion control that connections to an address get, as the kernel's own route lookup says."""

    def inside() -> str:
        with _rtnetlink() as netlink:
            (route,) = netlink.route("get", dst=address)
            metrics = route.get_attr("RTA_METRICS")
            pinned = metrics.get_attr("RTAX_CC_ALGO") if metrics else None
        return pinned or sysctl_path("net.ipv4.tcp_congestion_control").read_text().strip()

    with _translated(f"route to {address}"):
        return namespace.run(inside)
