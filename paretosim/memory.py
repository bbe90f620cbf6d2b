"""Memory that a stage needs on its device: weights, live activations and the batches at its two ends.

While a stage computes a batch, the next one arrives and the last one leaves (docs/model.md, "Memory"). An empty
stage holds those two only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paretosim.block import Model

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray


def all_stages_memory_bytes(model: Model, batch: int) -> NDArray[np.int64]:
    """Bytes of every stage: weights, its largest block's live tensors, both ends' batches.

    Returns
    -------
    (N + 1, N + 1) : entry [i, j] is that of the stage of blocks [i, j), 0 where i > j.
    """
    blocks = len(model.blocks)
    cuts = batch * np.array(model.cut_bytes(), dtype=np.int64)
    weights = np.array([0, *(block.weight_bytes for block in model.blocks)], dtype=np.int64).cumsum()
    peaks = batch * np.array([block.peak_activation_bytes for block in model.blocks], dtype=np.int64)
    # Row by row the highest peak from that block on; what stands before a row's own block is no stage.
    highest = np.maximum.accumulate(np.triu(np.broadcast_to(peaks, (blocks, blocks))), axis=1)
    found = np.zeros((blocks + 1, blocks + 1), dtype=np.int64)
    found[:-1, 1:] = np.triu(weights[1:] - weights[:-1, np.newaxis] + highest + cuts[:-1, np.newaxis] + cuts[1:])
    found[np.diag_indices(blocks + 1)] = 2 * cuts
    return found
