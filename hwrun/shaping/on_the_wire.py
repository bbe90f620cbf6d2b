"""Paths in control messages, and back."""

from __future__ import annotations

from hwrun.shaping.setting import Egress, Path, Peer
from hwrun.wire.control import ShapedPath


def to_wire(path: Path) -> ShapedPath:
    """The path as a control message carries it."""
    egress = path.egress
    return ShapedPath(
        peers=tuple(map(str, path.peers)),
        rate_bps=egress.rate_bps,
        delay_s=egress.delay_s,
        jitter_s=egress.jitter_s,
        loss=egress.loss,
        limit_packets=egress.limit_packets,
        limiter=egress.limiter,
    )


def from_wire(asked: ShapedPath) -> Path:
    """The path of a control message.

    Raises
    ------
    BadUsageError : one that cannot be.
    """
    egress = Egress(
        rate_bps=asked.rate_bps,
        delay_s=asked.delay_s,
        jitter_s=asked.jitter_s,
        loss=asked.loss,
        limit_packets=asked.limit_packets,
        limiter=asked.limiter,
    )
    return Path(egress, tuple(Peer.parse(peer) for peer in asked.peers))
