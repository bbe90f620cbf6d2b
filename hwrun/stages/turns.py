"""Whose turn it is, where one device has several stages to compute."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """One at a time, in the order in which they came.

    `threading.Lock` knows no order: the thread that lets go of it mostly takes it again before one that waits has
    woken, and so a first stage would run ahead by as many batches as its queues hold, now one, now three.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next = 0  # the number that who comes next will draw
        self._called = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for one's turn; it ends with the block."""
        with self._changed:
            mine = self._next
            self._next += 1
            self._changed.wait_for(lambda: self._called == mine)
        try:
            yield
        finally:
            with self._changed:
                self._called += 1
                self._changed.notify_all()
