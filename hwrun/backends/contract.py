"""What a stage sees of the way its batches come and go: an inlet and an outlet, whatever carries them.

A backend is one module that makes both ends of a hop; a stage never knows which. Batches keep their order. One thread
uses an end at a time, but for `shut_down`, which any thread may call to wake it. `tests/hwrun/test_backends.py` is what
every backend passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from hwrun.records import Scalar


def _nothing() -> None:
    return


@dataclass(frozen=True)
class Arrival:
    """A batch that has arrived, in order.

    `start_s` is when it began to arrive (None where a backend cannot tell) and `end_s` when it was whole, on this
    process's monotonic clock. `release` gives its memory back; nothing may view the tensors afterwards.
    """

    sequence: int
    tensors: tuple[torch.Tensor, ...]
    start_s: float | None
    end_s: float
    release: Callable[[], None] = _nothing


class Inlet(Protocol):
    """Where a stage's batches arrive."""

    def receive(self) -> Arrival:
        """Wait for the next batch.

        Raises
        ------
        PeerGoneError : the other end is gone, or this one was shut down.
        ProtocolError : what came is no batch, or a longer one than was agreed; nothing was allocated for it.
        """

    @property
    def buffer_bytes(self) -> int | None:
        """SO_RCVBUF as it is now, None without a TCP socket of ours."""

    def shut_down(self) -> None:
        """Wake whoever waits in `receive`, now and later; harmless when repeated."""

    def close(self) -> None:
        """Let go of it; nobody uses it any more."""


class Outlet(Protocol):
    """Where a stage's batches leave."""

    def send(self, sequence: int, tensors: Sequence[torch.Tensor]) -> None:
        """Send a batch; on return its memory may be used again.

        Raises
        ------
        PeerGoneError : the other end is gone, or this one was shut down.
        """

    def tcp_info(self) -> dict[str, Scalar]:
        """What the kernel says of the sending socket, empty where that is none of TCP's, or not ours to ask."""

    @property
    def buffer_bytes(self) -> int | None:
        """SO_SNDBUF as it is now, None without a TCP socket of ours."""

    def shut_down(self) -> None:
        """Wake whoever waits in `send`, now and later, and the other end; harmless when repeated."""

    def close(self) -> None:
        """Let go of it; nobody uses it any more."""


class Landing(Protocol):
    """Where results are to arrive; open before the last stage is told to dial it."""

    @property
    def address(self) -> str:
        """Where the last stage dials it, as its backend reads addresses."""

    def accept(self) -> Inlet:
        """Wait for the last stage.

        Raises
        ------
        TimedOutError, AuthenticationError, ProtocolError : it did not come, or somebody else did.
        PeerGoneError : the landing was closed meanwhile.
        """

    def close(self) -> None:
        """Wake whoever waits in `accept`, and let go of it; harmless when repeated."""


class Ends(Protocol):
    """What the orchestrator holds of a pipeline: where each stage is dialled, its results and its inputs."""

    def stage_address(self, position: int) -> str:
        """Where the stage before (for the first: the orchestrator) dials stage `position`."""

    def results(self, pipeline: str, position: int, limit_bytes: int) -> Landing:
        """Where the results of a pipeline arrive, which is the position after its last stage's."""

    def inputs(self, pipeline: str) -> Outlet:
        """The way of inputs to the first stage, where they travel."""

    def check(self) -> None:
        """Raise HwrunError where the path itself is gone: what was under way on it never arrives."""
