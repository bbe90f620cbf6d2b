"""A setting in the kernel: set, read back, taken away. In the network namespace of the calling thread.

Before anything is set, what is there is looked at. The root that a kernel attaches by itself has handle 0 and comes
back by itself; one with our handle was left by an owner that was killed, and is taken away first; any other is
somebody's, and is only replaced where that was asked for and where it can be put back exactly.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hwrun.errors import BadUsageError, HwrunError, NotPermittedError
from hwrun.machine.offloads import Offload, is_on, switch
from hwrun.machine.own_command import own_command
from hwrun.shaping import options
from hwrun.shaping.claims import Claim, NotOursError, claims_of, setting_of
from hwrun.shaping.rtnetlink import (
    CREATE,
    DEL_QDISC,
    EXCLUSIVE,
    GET_CLASS,
    GET_FILTER,
    GET_QDISC,
    NEW_CLASS,
    NEW_FILTER,
    NEW_QDISC,
    REPLACE,
    ROOT,
    Traffic,
    TrafficSocket,
)
from hwrun.shaping.setting import OFFLOADS, Egress, Setting, restores_of
from hwrun.shaping.tc_lines import QUANTUM_BYTES, class_rate, leaf_major

# Qdiscs without classes of their own, whose options as dumped make them again.
_RESTORABLE = ("fq", "fq_codel", "cake", "codel", "pfifo", "bfifo", "pfifo_fast", "pie", "fq_pie", "sfq", "tbf")
_INGRESS_MAJOR = 0xFFFF
_NOT_PERMITTED = (
    "run it as root (sudo {hwrun} …), or give a worker the right alone: AmbientCapabilities=CAP_NET_ADMIN in its"
    " systemd unit, or sudo setpriv --reuid=$USER --regid=$USER --init-groups --inh-caps=+net_admin"
    " --ambient-caps=+net_admin {hwrun} worker …"
)
_NO_KIND = (
    "load it (sudo modprobe sch_{kind}), or install the kernel's modules (Debian, Raspberry Pi OS: they come with the"
    " kernel; Ubuntu: sudo apt install linux-modules-extra-$(uname -r))"
)


@dataclass(frozen=True)
class Found:
    """What is on an interface.

    Parameters
    ----------
    root : the qdisc at the root; None where there is none.
    setting : ours, if it is one and as we set it.
    problem : why a root with our handle is not as we set it.
    others : qdiscs below the root that somebody set.
    """

    root: Traffic | None
    setting: Setting | None = None
    problem: str | None = None
    others: tuple[Traffic, ...] = ()

    @property
    def major(self) -> int:
        """Of the root's handle; 0 for what the kernel attached by itself."""
        return 0 if self.root is None else self.root.handle >> 16

    @property
    def is_ours(self) -> bool:
        """Whether the root has our handle."""
        return restores_of(self.major) is not None

    @property
    def is_default(self) -> bool:
        """Whether nobody set anything."""
        return self.major == 0 and not self.others

    def __str__(self) -> str:
        if self.root is None:
            return "no qdisc"
        below = f" with {', '.join(other.kind for other in self.others)} below it" if self.others else ""
        return f"qdisc {self.root.kind} {self.major:x}:{below}"


@contextlib.contextmanager
def _translated(interface: str, step: str, kind: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{interface}: {step}: {error.strerror}"
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermittedError(what, _NOT_PERMITTED.format(hwrun=own_command())) from error
        if error.errno == errno.ENOENT and kind:
            raise HwrunError(f"{what}: this kernel has no {kind}; {_NO_KIND.format(kind=kind)}") from error
        raise HwrunError(f"{what}, expected the kernel to do it; see dmesg") from error


def interface_index(interface: str) -> int:
    """Number of an interface.

    Raises
    ------
    BadUsageError : there is none of that name.
    """
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        known = ", ".join(name for _, name in socket.if_nameindex())
        raise BadUsageError(f"interface: got {interface!r}, expected one of {known}") from error


def read(interface: str) -> Found:
    """What is on an interface; reading needs no rights."""
    index = interface_index(interface)
    with _translated(interface, "reading its qdiscs"), TrafficSocket() as netlink:
        return _read(netlink, interface, index)


def read_all() -> dict[str, str]:
    """In words, what is on every interface, by its name; those that cannot be read are left out."""
    found = {}
    for _, interface in socket.if_nameindex():
        with contextlib.suppress(HwrunError, BadUsageError):  # gone meanwhile, or nobody may ask
            found[interface] = str(read(interface))
    return found


def _read(netlink: TrafficSocket, interface: str, index: int) -> Found:
    qdiscs = netlink.dump(GET_QDISC, index)
    root = next((qdisc for qdisc in qdiscs if qdisc.parent == ROOT), None)
    set_by_someone = tuple(
        qdisc for qdisc in qdiscs if qdisc.parent != ROOT and qdisc.handle >> 16 not in (0, _INGRESS_MAJOR)
    )
    found = Found(root, others=set_by_someone)
    if root is None or not found.is_ours:
        return found
    try:
        return replace(found, setting=_read_setting(netlink, interface, index, root, set_by_someone))
    except (NotOursError, BadUsageError) as error:
        return replace(found, problem=str(error))


def _read_setting(
    netlink: TrafficSocket, interface: str, index: int, root: Traffic, leaves: tuple[Traffic, ...]
) -> Setting:
    major = root.handle >> 16
    options.check_htb_root(root.options)
    classes = sorted(netlink.dump(GET_CLASS, index), key=lambda one: one.handle)
    by_parent = {leaf.parent: leaf for leaf in leaves}
    egresses = []
    for number, one in enumerate(classes, start=1):
        leaf = by_parent.get(major << 16 | number)
        if one.handle != major << 16 | number or leaf is None or leaf.handle >> 16 != leaf_major(major, number):
            raise NotOursError(f"class {one.handle >> 16:x}:{one.handle & 0xFFFF:x} is not where it was set")
        egresses.append(_read_egress(leaf, options.read_htb_class(one.options)))
    if len(leaves) != len(classes):
        raise NotOursError(f"{len(leaves)} qdiscs below {len(classes)} classes")
    found = [options.read_u32_filter(one.options, one.info) for one in netlink.dump(GET_FILTER, index, root.handle)]
    return setting_of(interface, major, egresses, [claim for claim in found if claim is not None])


def _read_egress(leaf: Traffic, of_class: tuple[int, int, int]) -> Egress:
    if leaf.kind == "netem":
        egress = options.read_netem(leaf.options)
    elif leaf.kind == "pfifo":
        egress = Egress(rate_bps=of_class[0], limit_packets=options.read_fifo(leaf.options), limiter="htb")
    else:
        raise NotOursError(f"a {leaf.kind} stands below a class")
    rate_bps, burst_bytes = class_rate(egress)
    if of_class != (rate_bps, options.burst_ticks(rate_bps, burst_bytes), QUANTUM_BYTES):
        raise NotOursError(f"a class has another rate, burst or quantum than its {leaf.kind} goes with")
    return egress


def apply(setting: Setting, *, replace_root: bool = False) -> tuple[Setting, Traffic | None]:
    """Set it and read it back; what was on the interface is as before if this raises.

    Parameters
    ----------
    setting : its `restores` are found here, and need not be given.
    replace_root : put aside a root qdisc that somebody set.

    Returns
    -------
    The setting as read back, and the root that was put aside (for `remove`).

    Raises
    ------
    BadUsageError : no such interface, or somebody's root is there.
    NotPermittedError, HwrunError : the kernel refuses, or what is read back is not what was asked.
    """
    interface = setting.interface
    index = interface_index(interface)
    found = read(interface)
    if found.is_ours:
        remove(interface)
        found = read(interface)
    if not found.is_default:
        if not replace_root:
            raise BadUsageError(
                f"{interface}: has {found}, which somebody set; expected the kernel's own. Remove it (tc qdisc del dev"
                f" {interface} root), or give --replace to put it aside meanwhile"
            )
        _check_restorable(interface, index, found)
    put_aside = None if found.is_default else found.root
    with _translated(interface, "reading its offloads"):
        restores = tuple(name for name in OFFLOADS if is_on(interface, name))
    wanted = replace(setting, restores=restores)
    try:
        with TrafficSocket() as netlink:
            _add(netlink, index, wanted)
        with _translated(interface, "switching offloads off"):
            for name in OFFLOADS:
                switch(interface, name, on=False)
        back = read(interface)
        if back.setting != wanted:
            raise HwrunError(
                f"{interface}: got {back.problem or back.setting or back} after setting it, expected {wanted};"
                " does another program set this interface?"
            )
    except BaseException:
        with contextlib.suppress(HwrunError):  # the first error is the one to tell
            remove(interface, put_aside)
        raise
    return wanted, put_aside


def _check_restorable(interface: str, index: int, found: Found) -> None:
    assert found.root is not None  # it is not the default
    with _translated(interface, "reading its filters"), TrafficSocket() as netlink:
        filters = netlink.dump(GET_FILTER, index, found.root.handle) if found.major else []
    if found.root.kind not in _RESTORABLE or found.others or filters:
        raise BadUsageError(
            f"{interface}: has {found}{' and filters' if filters else ''}, which --replace could not put back exactly;"
            f" expected one of {', '.join(_RESTORABLE)} alone. Remove it, and set it again afterwards"
        )


def _add(netlink: TrafficSocket, index: int, setting: Setting) -> None:
    interface, root = setting.interface, setting.major << 16
    with _translated(interface, "adding an htb root", "htb"):
        netlink.change(NEW_QDISC, Traffic(index, root, ROOT, "htb", options.htb_root()), CREATE | REPLACE)
    for number, path in enumerate(setting.paths, start=1):
        parent = root | number
        of_class = options.htb_class(*class_rate(path.egress), QUANTUM_BYTES)
        with _translated(interface, f"adding class {number}"):
            netlink.change(NEW_CLASS, Traffic(index, parent, root, "htb", of_class), CREATE | EXCLUSIVE)
        kind, of_leaf = (
            ("netem", options.netem(path.egress))
            if path.egress.limiter == "netem"
            else ("pfifo", options.fifo(path.egress.limit_packets))
        )
        leaf = Traffic(index, leaf_major(setting.major, number) << 16, parent, kind, of_leaf)
        with _translated(interface, f"adding a {kind}", kind):
            netlink.change(NEW_QDISC, leaf, CREATE | EXCLUSIVE)
    for claim in claims_of(setting):
        one = Traffic(index, 0, root, "u32", options.u32_filter(claim, setting.major), options.filter_info(claim))
        with _translated(interface, f"adding a filter for {_words(claim)}", "u32"):
            netlink.change(NEW_FILTER, one, CREATE | EXCLUSIVE)


def _words(claim: Claim) -> str:
    return claim.address if claim.port is None else f"{claim.address} {claim.side} {claim.port}"


def remove(interface: str, put_aside: Traffic | None = None) -> bool:
    """Take our setting away and bring back what was there before; False where there was none of ours.

    Parameters
    ----------
    put_aside : a root that `apply` put aside.

    Raises
    ------
    NotPermittedError, HwrunError : the kernel refuses.
    """
    index = interface_index(interface)
    found = read(interface)
    restores = restores_of(found.major)
    if restores is None:
        return False
    with _translated(interface, "removing the root"), TrafficSocket() as netlink:
        netlink.change(DEL_QDISC, Traffic(index, 0, ROOT, ""))
        if put_aside is not None:
            netlink.change(NEW_QDISC, put_aside, CREATE | REPLACE)
    restore_offloads(interface, restores)
    left = read(interface)
    if left.is_ours or (put_aside is not None and left.root != put_aside):
        raise HwrunError(f"{interface}: has {left} after removing, expected {put_aside or 'the kernel default'}")
    return True


def restore_offloads(interface: str, restores: tuple[Offload, ...]) -> None:
    """Switch on again what was on before."""
    with _translated(interface, "switching offloads on again"):
        for name in restores:
            switch(interface, name, on=True)
