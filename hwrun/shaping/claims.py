"""Which packets go to which path: a setting's filters as plain values, and the setting that filters stand for.

Whatever reads filters (tc lines, the kernel's dump) turns them into claims, and one function turns claims into peers.
It refuses what the claims of the result do not give again, so that a tree that somebody changed is not taken for ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hwrun.errors import HwrunError
from hwrun.shaping.setting import Egress, Path, Peer, Setting, restores_of

# Filters are looked through by priority, and one priority has one protocol: exceptions come before peers.
EXCEPTION_PRIORITY, PEER_PRIORITY = {4: 1, 6: 2}, {4: 3, 6: 4}
UNSHAPED_CLASS = 0
Side = Literal["dport", "sport"]
SIDES: tuple[Side, ...] = ("dport", "sport")


class Claim(NamedTuple):
    """A filter: packets to `address` with TCP port `port` at that end (None: all packets) go to class `target`."""

    priority: int
    version: int
    address: str
    side: Side | None
    port: int | None
    target: int


class NotOursError(HwrunError):
    """What is set on an interface is not what this program sets."""


def claims_of(setting: Setting) -> tuple[Claim, ...]:
    """Filters in the order they are looked through: for one address, those with ports before the one without."""
    found = [
        Claim(EXCEPTION_PRIORITY[peer.version], peer.version, peer.address, side, port, UNSHAPED_CLASS)
        for path in setting.paths
        for peer in path.peers
        if not peer.ports  # a peer with ports claims nothing else
        for port in setting.except_ports
        for side in SIDES
    ]
    for number, path in enumerate(setting.paths, start=1):
        for peer in path.peers:
            ends: list[tuple[Side | None, int | None]] = [(side, port) for port in peer.ports for side in SIDES]
            found += [
                Claim(PEER_PRIORITY[peer.version], peer.version, peer.address, side, port, number)
                for side, port in ends or [(None, None)]
            ]
    return tuple(sorted(found, key=lambda claim: (claim.priority, claim.port is None)))


def setting_of(interface: str, major: int, egresses: Sequence[Egress], claims: Iterable[Claim]) -> Setting:
    """The setting whose classes are `egresses` and whose filters are `claims`.

    Raises
    ------
    NotOursError : there is none.
    """
    claims = tuple(claims)
    restores = restores_of(major)
    if restores is None:
        raise NotOursError(f"{interface}: its root is {major:x}:, which is not hwrun's")
    paths = []
    for number, egress in enumerate(egresses, start=1):
        ports: dict[str, list[int]] = {}
        for claim in claims:
            if claim.target == number:
                found = ports.setdefault(claim.address, [])
                if claim.port is not None and claim.port not in found:
                    found.append(claim.port)
        whole = {claim.address for claim in claims if claim.target == number and claim.port is None}
        peers = [Peer(address, tuple(found)) for address, found in ports.items() if found]
        peers += [Peer(address) for address in whole]
        if not peers:
            raise NotOursError(f"{interface}: class {number} has no filter that leads to it")
        paths.append(Path(egress, tuple(peers)))
    excepted = {claim.port for claim in claims if claim.target == UNSHAPED_CLASS and claim.port is not None}
    setting = Setting(interface=interface, paths=tuple(paths), except_ports=tuple(sorted(excepted)), restores=restores)
    if claims_of(setting) != claims:
        raise NotOursError(f"{interface}: its filters are not those that hwrun would set for {len(paths)} path(s)")
    return setting
