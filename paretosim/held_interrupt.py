"""Holding Ctrl-C back while modules load.

A module of C code whose initialisation an interrupt cuts short may go on half made: msgspec without the functions of
datetime that it looks up, which then crashes the process at the first annotation it reads.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def held_interrupt() -> Iterator[None]:
    """Within it a Ctrl-C is noted, and raised at its end.

    Only where it would raise KeyboardInterrupt: one that is ignored stays so, and another's handler has its own say.

    Raises
    ------
    KeyboardInterrupt : at the end, whatever else was raised.
    """
    came: list[int] = []
    held = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if held:
        try:
            signal.signal(signal.SIGINT, lambda number, _: came.append(number))
        except ValueError:  # a thread that is not the main one, in which none is raised
            held = False
    try:
        yield
    finally:
        if held:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
