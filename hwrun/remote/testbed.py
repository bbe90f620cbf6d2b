"""The network between real hosts, as it stands."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from hwrun.errors import NotPermittedError
from hwrun.records import Medium, Scalar
from hwrun.remote.lab_file import Lab
from paretosim.link import Link


class RemoteTestbed:
    """Hosts of a testbed file and whatever joins them. Use it as a context manager.

    Parameters
    ----------
    hosts : names of those that take part.
    """

    def __init__(self, lab: Lab, hosts: tuple[str, ...]) -> None:
        self._lab = lab
        self._hosts = tuple(lab.host(name) for name in hosts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing of it was made here."""

    def shape(self, links: Mapping[tuple[str, str], Link]) -> None:
        """Nothing where nothing is asked.

        Raises
        ------
        NotPermittedError : a link is asked for.
        """
        if links:
            raise NotPermittedError("the links of a testbed's hosts are not shaped", "measure them unshaped")

    def medium(self, start: str, end: str, link: Link | None) -> Medium:
        """The network; `loopback` between workers of one host."""
        local = self._lab.host(start).data.is_local and self._lab.host(end).data.is_local
        return "loopback" if start == end or local else "network"

    def counters(self, *, reset: bool = False) -> dict[str, int | float]:
        """Nothing counts here."""
        return {}

    def check_usable(self) -> None:
        """It has no parts of its own that could break; its workers say for themselves when they are gone."""

    def description(self) -> dict[str, Scalar]:
        """The hosts as the testbed file has them; nothing that is secret."""
        orchestrator = [host.name for host in self._hosts if host.ssh is None]
        found: dict[str, Scalar] = {
            "kind": "remote",
            "shaped": False,
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
