"""A bounded queue between two threads of a worker, which closing wakes on both sides."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class HandoverClosed(Exception):  # noqa: N818 - not a fault: how a thread learns that its work is over
    """The handover was closed while, or before, a thread waited on it."""


class Handover(Generic[_Item]):
    """At most `depth` items wait in it; `put` blocks while it is full: that is the back-pressure.

    A batch is handed over several times on its way, and its latency has every wake-up in it. Items and places are
    therefore queues of the standard library's C part: a thread waiting on one was running again about 40 µs after a
    put, where a Condition, whose lock the woken thread has to take once more, took about 70.

    Parameters
    ----------
    depth : items that may wait; None for no bound (numbers of dispatched batches, which cost nothing).
    """

    def __init__(self, depth: int | None) -> None:
        # None in either queue says that it is closed, and is put back for whoever waits next.
        self._items: queue.SimpleQueue[tuple[_Item] | None] = queue.SimpleQueue()
        self._places: queue.SimpleQueue[bool | None] | None = None
        if depth is not None:
            self._places = queue.SimpleQueue()
            for _ in range(depth):
                self._places.put(True)
        self._closed = threading.Event()

    def put(self, item: _Item) -> None:
        """Hand `item` over; waits for room."""
        if self._places is not None and self._places.get() is None:
            self._places.put(None)
        if self._closed.is_set():
            raise HandoverClosed
        self._items.put((item,))

    def get(self) -> _Item:
        """The next item; waits for one."""
        held = self._items.get()
        if held is None or self._closed.is_set():
            self._items.put(None)
            raise HandoverClosed
        if self._places is not None:
            self._places.put(True)
        return held[0]

    def close(self) -> None:
        """Wake everybody; what still waits in it is dropped."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._items.get_nowait()
        self._items.put(None)
        if self._places is not None:
            self._places.put(None)
