"""A bounded queue between two threads of a worker, which closing wakes on both sides."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class HandoverClosed(Exception):  # noqa: N818 - not a fault: how a thread learns that its work is over
    """The handover was closed while, or before, a thread waited on it."""


class Handover(Generic[_Item]):
    """At most `depth` items wait in it; `put` blocks while it is full: that is the back-pressure.

    Parameters
    ----------
    depth : items that may wait; None for no bound (numbers of dispatched batches, which cost nothing).
    """

    def __init__(self, depth: int | None) -> None:
        self._depth = depth
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: _Item) -> None:
        """Hand `item` over; waits for room."""
        with self._changed:
            while not self._closed and self._depth is not None and len(self._items) >= self._depth:
                self._changed.wait()
            if self._closed:
                raise HandoverClosed
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> _Item:
        """The next item; waits for one."""
        with self._changed:
            while not self._items:
                if self._closed:
                    raise HandoverClosed
                self._changed.wait()
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Wake everybody; what still waits in it is dropped."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
