"""Receive buffers that are used again: a fresh one would pay page faults in every batch."""

from __future__ import annotations

import threading

import numpy as np

# torch's own allocator aligns to 64 bytes: vector loads on a received tensor then cost what they do on a local one.
ALIGNMENT_BYTES = 64
_NOTHING = memoryview(bytearray())


def new_buffer(size_bytes: int) -> memoryview:
    """A writable buffer of exactly that size, aligned to ALIGNMENT_BYTES, with any content."""
    room = np.empty(size_bytes + ALIGNMENT_BYTES, np.uint8)
    start = -room.ctypes.data % ALIGNMENT_BYTES
    return room.data[start : start + size_bytes]


class BufferPool:
    """Receive buffers that are used again, found by size: a fresh one would pay page faults in every batch.

    Parameters
    ----------
    kept : free buffers held at most, of whatever sizes; the one that was returned first is dropped for another.
    """

    def __init__(self, kept: int = 2) -> None:
        self._kept = kept
        self._free: list[memoryview] = []
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> memoryview:
        """A buffer that was returned, or a `new_buffer`."""
        if size_bytes == 0:
            return _NOTHING
        with self._lock:
            for place, buffer in enumerate(self._free):
                if buffer.nbytes == size_bytes:
                    return self._free.pop(place)
        return new_buffer(size_bytes)

    def give(self, buffer: memoryview) -> None:
        """Return a buffer that nothing views any more."""
        if buffer.nbytes == 0:
            return
        with self._lock:
            self._free.append(buffer)
            if len(self._free) > self._kept:
                self._free.pop(0)
