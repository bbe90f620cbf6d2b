"""What the kernel says of a TCP connection: round trips, windows, retransmissions, buffers."""

from __future__ import annotations

import socket
import struct

from hwrun.wire.connection import Connection
from hwrun.wire.tls import Stream

# struct tcp_info of linux/tcp.h: eight bytes, then these 32-bit numbers in this order.
_TCP_INFO_WORDS = (
    "rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets", "last_data_sent",
    "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh",
    "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans",
)  # fmt: skip
_TCP_INFO = struct.Struct(f"=8B{len(_TCP_INFO_WORDS)}I")


def tcp_info(stream: Stream) -> dict[str, str | int | float | bool | None]:
    """What the kernel says of a TCP connection from this, the sending, side; empty for a unix socket.

    Times in seconds, windows in segments: `rtt_s`, `rttvar_s`, `rto_s`, `cwnd`, `ssthresh`, `snd_mss_bytes`,
    `retransmits`, `congestion_control`, `send_buffer_bytes`, `receive_buffer_bytes`; only the buffers where the system
    has no TCP_INFO.
    """
    if stream.family not in (socket.AF_INET, socket.AF_INET6):
        return {}
    buffers = {
        "send_buffer_bytes": stream.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        "receive_buffer_bytes": stream.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
    }
    if not hasattr(socket, "TCP_INFO"):
        return buffers
    raw = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    words = dict(zip(_TCP_INFO_WORDS, _TCP_INFO.unpack(raw.ljust(_TCP_INFO.size, b"\0"))[8:], strict=True))
    name = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return {
        "rtt_s": words["rtt"] / 1e6,
        "rttvar_s": words["rttvar"] / 1e6,
        "rto_s": words["rto"] / 1e6,
        "cwnd": words["snd_cwnd"],
        "ssthresh": words["snd_ssthresh"],
        "snd_mss_bytes": words["snd_mss"],
        "retransmits": words["total_retrans"],
        "congestion_control": name.rstrip(b"\0").decode(),
        **buffers,
    }


def buffer_bytes(connection: Connection | None, option: int) -> int | None:
    """SO_SNDBUF or SO_RCVBUF of a TCP connection as the kernel has tuned it by now; None of any other."""
    if connection is None or connection.socket.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return connection.socket.getsockopt(socket.SOL_SOCKET, option)
