"""The network between real hosts: as it stands, or as slow as their workers make what they send.

A link is shaped at both of its ends, each on its own interface, by the workers themselves (docs/shaping.md). Only
traffic from and to data ports is meant, so control connections and everything else stay as they are. RPC takes ports
that nobody knows beforehand; for it all traffic between the two hosts is meant, but for control and ssh.
"""

from __future__ import annotations

import ipaddress
import platform
import socket
from collections.abc import Callable, Mapping
from typing import Self

from hwrun.errors import BadUsageError, HwrunError
from hwrun.records import Medium, Scalar
from hwrun.remote.lab_file import Lab, LabHost
from hwrun.shaping.ends import End, paths_by_host
from hwrun.shaping.lease import MAX_LEASE_S
from hwrun.worker_client import WorkerClient
from paretosim.link import Link

# After the orchestrator's last message to a worker, and beyond what `shape` is asked to hold: while a cell runs only
# the first stage's worker hears anything. Whoever leaves ends its session at once; this is for a host that vanishes.
LEASE_S = 900.0
_SSH_PORT = 22


class RemoteTestbed:
    """Hosts of a testbed file and whatever joins them. Use it as a context manager.

    `addresses`, once it is open, are where each host takes data, as numbers: names are resolved once, so that a moment
    without a resolver does not end a sweep.

    Parameters
    ----------
    hosts : names of those that take part.
    """

    def __init__(self, lab: Lab, hosts: tuple[str, ...]) -> None:
        self._lab = lab
        self._hosts = tuple(lab.host(name) for name in hosts)
        self._client: Callable[[str], WorkerClient] | None = None
        self._shaped: dict[str, tuple[str, ...]] = {}
        self.addresses: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        self.addresses = {host.name: numeric_address(host) for host in self._hosts}
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it was made here: workers end what they shape with their sessions."""

    def reach(self, client: Callable[[str], WorkerClient] | None) -> None:
        """How the worker of a host is reached, once there are workers; None when they are left."""
        self._client = client

    def shape(self, links: Mapping[tuple[str, str], Link], *, any_port: bool = False, hold_s: float = 0.0) -> None:
        """Have the hosts of each link shape what they send each other, and no other host anything.

        Raises
        ------
        BadUsageError : links that contradict each other.
        HwrunError : a worker could not; its reason and remedy are in the message.
        """
        ends = {
            host.name: End(self.addresses[host.name], () if any_port else data_ports(self._lab, host))
            for host in self._hosts
        }
        left_alone = control_ports(self._lab) if any_port else ()
        lease_s = min(LEASE_S + hold_s, MAX_LEASE_S)
        wanted = paths_by_host(links, ends)
        if self._client is None:
            if wanted:
                raise HwrunError("testbed: there are no workers yet, expected them before a link is shaped")
            return
        self._shaped = {}
        for host in self._hosts:
            lines = self._client(host.name).shape(wanted.get(host.name, ()), host.interface, lease_s, left_alone)
            if lines:
                self._shaped[host.name] = lines

    def medium(self, start: str, end: str, link: Link | None) -> Medium:
        """The network; `loopback` between workers of one host."""
        local = self._lab.host(start).data.is_local and self._lab.host(end).data.is_local
        return "loopback" if start == end or local else "network"

    def counters(self, *, reset: bool = False) -> Mapping[str, Scalar]:
        """The tc lines that each shaped host has, read back just now.

        Raises
        ------
        HwrunError : one no longer has them, or lost them in between.
        """
        client = self._client
        return {} if client is None else {f"{name}.tc": "; ".join(client(name).check_shape()) for name in self._shaped}

    def check_usable(self) -> None:
        """It has no parts of its own that could break; its workers say for themselves when they are gone."""

    def description(self) -> dict[str, Scalar]:
        """The hosts as the testbed file has them; nothing that is secret."""
        orchestrator = [host.name for host in self._hosts if host.ssh is None]
        found: dict[str, Scalar] = {
            "kind": "remote",
            "shaped": True,
            "name": self._lab.name,
            "hosts": ",".join(host.name for host in self._hosts),
            "orchestrator": socket.gethostname(),
            "orchestrator_on": orchestrator[0] if orchestrator else None,
            "kernel": platform.release(),
            "tls": self._lab.tls is not None,
        }
        for host in self._hosts:
            found |= {
                f"{host.name}.address": host.address,
                f"{host.name}.data_address": host.data.host,
                f"{host.name}.device": host.device,
                f"{host.name}.interface": host.interface,
                f"{host.name}.threads": host.threads,
                f"{host.name}.cores": host.cores,
            }
        return found


def numeric_address(host: LabHost) -> str:
    """The address that data for this host go to, as numbers: what a filter on packets matches.

    Raises
    ------
    BadUsageError : its name is not known here.
    """
    try:
        found = socket.getaddrinfo(host.data.host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadUsageError(
            f"host {host.name}: got {host.data.host}, which is not known here ({error.strerror}); expected an address"
        ) from error
    return str(ipaddress.ip_address(str(found[0][4][0]).partition("%")[0]))


def control_ports(lab: Lab) -> tuple[int, ...]:
    """TCP ports at which the testbed's hosts are controlled: by their workers, and over ssh."""
    ssh = [_SSH_PORT, *(host.ssh.port for host in lab.hosts if host.ssh is not None)]
    return tuple(sorted({*ssh, *(host.control_port for host in lab.hosts)}))


def data_ports(lab: Lab, host: LabHost) -> tuple[int, ...]:
    """TCP ports at which data are taken on a host: its worker's, and on this very machine those of results."""
    results = (lab.results_port,) if host.ssh is None and lab.results_port else ()
    return tuple(dict.fromkeys((host.data_port, *results)))
