"""A stage that receives, computes and sends in three threads with bounded queues between them.

So it can receive batch n + 1 and send batch n − 1 while it computes batch n. A full queue stops the thread before it,
and a receive thread that stops reading makes TCP stop the sender: that is all the flow control. Receive buffers go back
to their pool when nothing views them any more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from hwrun.stages.runner import StageResult, StageRunner, sharpen_timer
from hwrun.stages.stage import Batch, Stage
from hwrun.wire.handover import Handover


class OverlappedStage(Stage):
    """The three threads of a stage.

    Parameters
    ----------
    queue_depth : batches that may wait before computing, and before sending.
    """

    def __init__(
        self,
        runner: StageRunner,
        *,
        kept_input: tuple[torch.Tensor, ...] | None,
        queue_depth: int,
        threads: int,
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(runner, kept_input=kept_input, waiting=queue_depth, threads=threads, on_failure=on_failure)
        self._leaving: Handover[tuple[Batch, StageResult]] = Handover(queue_depth)
        self._running: set[str] = set()

    def _started(self) -> None:
        if self._inlet is not None:
            self._once("receive", self._receive)
        if self._outlet is not None:
            self._once("compute", self._compute)
            self._once("send", self._send)

    def _once(self, name: str, work: Callable[[], None]) -> None:
        if name not in self._running:
            self._running.add(name)
            self._start(name, work)

    def _wake(self) -> None:
        self._leaving.close()
        super()._wake()

    def _receive(self) -> None:
        while True:
            self._arrived.put(self._receive_one())

    def _compute(self) -> None:
        sharpen_timer()
        torch.set_num_threads(self._torch_threads)
        while True:
            batch = self._arrived.get()
            self._leaving.put((batch, self._compute_one(batch)))

    def _send(self) -> None:
        while True:
            self._send_one(*self._leaving.get())
