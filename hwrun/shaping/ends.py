"""What each host has to set so that the paths between hosts are what their links say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwrun.errors import BadUsageError
from hwrun.shaping.setting import Egress, Path, Peer, egresses_of
from paretosim.link import Link


@dataclass(frozen=True)
class End:
    """A host as its peers see it: the address that data come from and go to, and the ports that data are taken at.

    Without ports they are taken at any.
    """

    address: str
    ports: tuple[int, ...]


def paths_by_host(links: Mapping[tuple[str, str], Link], ends: Mapping[str, End]) -> dict[str, tuple[Path, ...]]:
    """The paths that each host sets on what it sends; hosts without any are left out.

    The start of a link shapes what it sends to the end, and the end what it sends back, acknowledgements included. Of
    the traffic between the two only that of their data ports is meant, at whichever end the port is; all of it where
    neither names any.

    Parameters
    ----------
    links : by (start, end); two links between the same hosts have to be each other's reverse.
    ends : by name.

    Raises
    ------
    BadUsageError : two links that contradict each other, hosts at one address.
    """
    wanted: dict[tuple[str, str], Egress] = {}
    for (start, end), link in links.items():
        if ends[start].address == ends[end].address:
            raise BadUsageError(
                f"link {link.name}: {start} and {end} share the address {ends[start].address}, between which no"
                " interface is shaped; expected hosts of their own addresses"
            )
        for sender, receiver, egress in zip((start, end), (end, start), egresses_of(link), strict=True):
            if wanted.setdefault((sender, receiver), egress) != egress:
                raise BadUsageError(
                    f"link {link.name}: from {sender} to {receiver} another link asks for something else; expected one"
                    " link a pair of hosts"
                )
    found: dict[str, tuple[Path, ...]] = {}
    for (sender, receiver), egress in wanted.items():
        ports = tuple({*ends[sender].ports, *ends[receiver].ports})
        found[sender] = (*found.get(sender, ()), Path(egress, (Peer(ends[receiver].address, ports),)))
    return found
