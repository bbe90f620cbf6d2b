"""How a pipeline is operated beside its mode: its workers, their buffers, the length of a run, and the clock."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from paretosim.errors import BadInputError
from paretosim.mode import MAX_BATCHES, Arrivals, Mode

Workers = Literal["overlapped", "serial"]
WORKERS: tuple[Workers, ...] = get_args(Workers)
Clock = Literal["dispatch", "stage1"]

# The most that Linux lets a socket's send buffer grow to (tcp_wmem in tcp(7)). Its receive counterpart is a link's
# `wmax_bytes`.
SEND_BUFFER_BYTES = 4 * 2**20
MAX_SEED = 2**63


class Operation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a pipeline is operated; the defaults are those that the closed forms are of.

    `slots` is the room before each station but the first, the batch in service not counted; None without bounds.
    `batches` makes the run a finite one, from an empty pipeline on, in modes `closed` and `open`. `clock` says when a
    latency begins: at the dispatch, or when stage 1 starts. Buffers are the kernel's, of serial workers; a receive
    buffer of None is the link's `wmax_bytes`. `seed` is that of Poisson arrivals.
    """

    workers: Workers = "overlapped"
    slots: int | None = None
    batches: int | None = None
    clock: Clock = "dispatch"
    send_buffer_bytes: int = SEND_BUFFER_BYTES
    receive_buffer_bytes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.slots is not None and not 0 <= self.slots <= MAX_BATCHES:
            raise BadInputError(f"buffers: got {self.slots} slots, expected 0 to {MAX_BATCHES}")
        if self.slots is not None and self.workers == "serial":
            raise BadInputError(
                "buffers: got slots for serial workers, which have no queues but the kernel's; expected"
                " --workers overlapped, or a --send-buffer and --receive-buffer in bytes"
            )
        if self.batches is not None and not 1 <= self.batches <= MAX_BATCHES:
            raise BadInputError(f"batches: got {self.batches}, expected 1 to {MAX_BATCHES}")
        for field in ("send_buffer_bytes", "receive_buffer_bytes"):
            value = getattr(self, field)
            if value is not None and value < 0:
                raise BadInputError(f"{field}: got {value}, expected 0 or more")
        if not 0 <= self.seed < MAX_SEED:
            raise BadInputError(f"seed: got {self.seed}, expected a whole number of 0 or more, below 2^63")

    def check(self, mode: Mode) -> None:
        """Refuse what means nothing in that mode."""
        if self.batches is not None and mode.name not in ("closed", "open"):
            raise BadInputError(f"batches: a finite run means nothing in mode {mode.name}, expected closed or open")
        if self.clock == "stage1" and mode.name != "burst":
            raise BadInputError(f"clock: got that of stage 1 in mode {mode.name}, expected mode burst")

    def draws(self, mode: Mode) -> bool:
        """Whether a prediction in that mode is drawn at random, so that the seed matters.

        Random arrivals at a line of fixed services without bounds have exact figures; others are drawn.
        """
        random = isinstance(mode.arrivals, Arrivals) and mode.arrivals.process == "poisson"
        return random and not self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether the closed forms over L₀ and t* hold in the modes that have one."""
        return self.workers == "overlapped" and self.slots is None and self.batches is None and self.clock == "dispatch"
