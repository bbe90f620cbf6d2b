"""A stage that receives a batch, computes it and sends it in one thread, one after the other: the paper's worker.

Nothing of it overlaps but what the kernel does on its own, as far as its socket buffers reach (docs/model.md, "Serial
workers").
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from hwrun.stages.runner import StageRunner, sharpen_timer
from hwrun.stages.stage import Stage


class SerialStage(Stage):
    """The one thread of a stage."""

    def __init__(
        self,
        runner: StageRunner,
        *,
        kept_input: tuple[torch.Tensor, ...] | None,
        threads: int,
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(runner, kept_input=kept_input, waiting=None, threads=threads, on_failure=on_failure)

    def _started(self) -> None:
        if self._outlet is not None and (self._kept_input is not None or self._inlet is not None):
            self._start("serve", self._serve)

    def _serve(self) -> None:
        sharpen_timer()
        torch.set_num_threads(self._torch_threads)
        while True:
            batch = self._arrived.get() if self._inlet is None else self._receive_one()
            self._send_one(batch, self._compute_one(batch))
