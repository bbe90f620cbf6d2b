"""Frames as a packet socket receives them: a ring that the kernel fills and this process reads without system calls.

The ring (packet_mmap, TPACKET_V2) is memory of a size the process chooses. A plain socket's buffer is bounded by
net.core.rmem_max, which is 208 kB on most distributions: less than a megabyte message brings at once, so an
unprivileged relay would lose frames that no link dropped. The kernel also notes when each frame arrived, so that a
relay which was slow to wake still releases it at its time.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Callable

from hwrun.errors import HwrunError

# packet(7), linux/if_packet.h; Python does not name them.
_ETH_P_ALL, _SOL_PACKET = 0x0003, 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 5, 6, 10
_PACKET_QDISC_BYPASS, _PACKET_IGNORE_OUTGOING = 20, 23
_TPACKET_V2 = 1
_STATUS_KERNEL, _STATUS_USER = 0, 1
# struct tpacket2_hdr: status, length, captured length, start of the frame in its slot, start of its payload, arrival
# as seconds and nanoseconds of the wall clock.
_HEADER = struct.Struct("=IIIHHII")
_STATUS = struct.Struct("=I")
# A slot holds the header, an address and a full frame of 1514 bytes.
SLOT_BYTES = 2048
_LONGEST_FRAME_BYTES = 1518
# 8192 frames, 16 MiB: eight times the default queue limit in full frames, in blocks of 64 KiB.
_SLOTS, _BLOCK_BYTES = 8192, 65536


class FrameRing:
    """Slots that the kernel marks when filled and this process when read, in turn.

    Parameters
    ----------
    memory : the slots, `SLOT_BYTES` each.
    clock, wall_clock : seconds; arrivals are told by the first, the kernel stamps them by the second.
    """

    def __init__(self, memory: mmap.mmap, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._memory, self._clock, self._wall_clock = memory, clock, wall_clock
        self._end = len(memory)
        self._offset = 0
        self._latest_s = clock()

    def take(self, limit: int) -> list[tuple[float, bytes]]:
        """Up to `limit` frames and when each arrived, oldest first.

        The wall clock is set at times, so a stamp only says how long ago, within what the monotonic clock knows:
        not before the ring was last empty or the frame before arrived, and not after now.

        Raises
        ------
        HwrunError : a frame longer than the path's MTU allows.
        """
        memory, offset = self._memory, self._offset
        frames: list[tuple[float, bytes]] = []
        now_s = self._clock()
        ahead_s = 0.0
        while len(frames) < limit:
            status, length, captured, start, _, seconds, nanoseconds = _HEADER.unpack_from(memory, offset)
            if not status & _STATUS_USER:
                if not frames:
                    self._latest_s = now_s
                break
            if length > _LONGEST_FRAME_BYTES:
                raise HwrunError(
                    f"relay: got a frame of {length} bytes, expected at most {_LONGEST_FRAME_BYTES}; an offload"
                    " (gso, tso, gro) is on at one end of the relayed path: switch it off"
                )
            if not frames:
                ahead_s = self._wall_clock() - now_s
            arrival_s = seconds + nanoseconds * 1e-9 - ahead_s
            self._latest_s = arrival_s = min(max(arrival_s, self._latest_s), now_s)
            frames.append((arrival_s, memory[offset + start : offset + start + captured]))
            _STATUS.pack_into(memory, offset, _STATUS_KERNEL)
            offset += SLOT_BYTES
            if offset == self._end:
                offset = 0
        self._offset = offset
        return frames


def open_packet_socket(interface: str) -> tuple[socket.socket, mmap.mmap]:
    """A socket that sends frames out of the interface, and the memory of the ring of those that arrive at it."""
    # Protocol 0 receives nothing until bound, so that no other interface's frame slips in.
    packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packet.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    packet.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    packet.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
    size_bytes = _SLOTS * SLOT_BYTES
    request = struct.pack("IIII", _BLOCK_BYTES, size_bytes // _BLOCK_BYTES, SLOT_BYTES, _SLOTS)
    packet.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
    memory = mmap.mmap(packet.fileno(), size_bytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    packet.bind((interface, _ETH_P_ALL))
    packet.setblocking(False)
    return packet, memory


def read_overruns(packet: socket.socket) -> int:
    """Frames that found the ring full since this was last read."""
    # struct tpacket_stats: packets, drops. Reading sets both to zero.
    return int(struct.unpack("II", packet.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1])
