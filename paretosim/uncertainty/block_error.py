"""How far block times may be off: draws of all block times of a timing that its error and its repeats leave open.

A timing's headline error is the median of |error| of its stage times, so a normal error has a standard deviation of
σ = error / 0.6745. It has two parts, both log-normal (docs/model.md, "Uncertainty"):

- how long the model takes in all on that device: one factor common to all blocks;
- where that time is spent: factors that move time among the blocks and leave its sum alone. They are a stationary
  process with correlation exp(−distance / length) along the model, distance being the share of its time in between:
  neighbouring blocks are off alike.

Both are scaled so that a stage of half the model has the standard deviation σ. Where there are repeats, the median of
each block is drawn again besides, by resampling whole passes: a slow pass is slow in all of its blocks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.errors import BadInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from paretosim.timing import BlockTiming, Timing

    Array = NDArray[np.float64]

# Median of |z| of a standard normal z.
NORMAL_MEDIAN_DEVIATION = 0.6744897501960817
# Resampled repeats that are held at a time; 16 MB.
_CHUNK_REPEATS = 2**21


class ErrorModel(msgspec.Struct, frozen=True, kw_only=True):
    """How an error is shared out: `common_share` of its variance is the total's, the rest moves time among blocks.

    `correlation_length` is a share of the model's time. The defaults are derived in docs/model.md, "Uncertainty".
    """

    common_share: float = 0.5
    correlation_length: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.common_share <= 1:
            raise BadInputError(f"common_share: got {self.common_share}, expected 0 to 1")
        if not 1e-6 <= self.correlation_length <= 10:  # beyond that blocks are off independently, or all alike
            raise BadInputError(f"correlation_length: got {self.correlation_length}, expected 0.000001 to 10")

    def common_spread(self, error: float) -> float:
        """Standard deviation of the logarithm of a whole model's time, from its headline error."""
        return math.sqrt(self.common_share) * error / NORMAL_MEDIAN_DEVIATION

    def moving_spread(self, error: float) -> float:
        """Standard deviation of the process that moves time among blocks, before its sum is taken out of it."""
        own = math.sqrt(1 - self.common_share) * error / NORMAL_MEDIAN_DEVIATION
        return own / math.sqrt(half_variance(self.correlation_length))


def half_variance(length: float) -> float:
    """Variance of (mean over one half − mean over all) of a unit process with correlation exp(−distance / length).

    >>> round(half_variance(1e-6) / 1e-6, 3), round(half_variance(0.25), 3), round(half_variance(10.0), 3)
    (2.0, 0.19, 0.016)
    """
    ratio = 2 * length  # of the length to a half
    decay = -math.expm1(-1 / ratio)
    within = 2 * ratio * (1 - ratio * decay)
    across = (ratio * decay) ** 2
    return (within - across) / 2


def drawn_block_times_s(
    timing: Timing, batch: int, error: float, samples: int, rng: np.random.Generator, model: ErrorModel
) -> Array:
    """Block times of a batch as they may be, (samples, blocks) in seconds; exactly the timing's own without any error.

    Parameters
    ----------
    error : the headline relative error, which the timing's own may not be where that is not known.

    Raises
    ------
    BadInputError : an error so large that factors leave the range of numbers.
    """
    block_s = np.array(timing.at_batch(batch)[0])
    factors = np.ones((samples, len(block_s)))
    if error > 0:
        common = rng.standard_normal(samples)
        moving = _process(block_s / block_s.sum(), model.correlation_length, samples, rng)
        with np.errstate(all="ignore"):  # what leaves the range is refused below
            if model.common_share < 1:
                factors = np.exp(model.moving_spread(error) * moving)
                factors *= block_s.sum() / (factors @ block_s)[:, np.newaxis]
            factors *= np.exp(model.common_spread(error) * common)[:, np.newaxis]
        if not np.isfinite(factors).all():
            raise BadInputError(
                f"uncertainty: an error of {error:g} of {timing.model} on {timing.device} is too large for numbers;"
                " expected one well below 100"
            )
    return np.asarray(block_s * factors * _redrawn_medians(timing, batch, samples, rng))


def _process(shares: Array, length: float, samples: int, rng: np.random.Generator) -> Array:
    """A unit process at the middles of the blocks, (samples, blocks): its next value needs only the one before."""
    middles = np.cumsum(shares) - shares / 2
    kept = np.exp(-np.diff(middles) / length)
    values = rng.standard_normal((samples, len(shares)))
    for block, keep in enumerate(kept, start=1):
        values[:, block] = keep * values[:, block - 1] + math.sqrt(1 - keep**2) * values[:, block]
    return values


def _redrawn_medians(timing: Timing, batch: int, samples: int, rng: np.random.Generator) -> Array:
    """Medians of resampled repeats over the medians themselves, (samples, blocks); 1 where there are no repeats.

    Repeats are those of the profiled batch nearest to `batch`. Where all blocks have as many, repeat r of each is of
    the same pass, as `hwrun profile` takes them, and passes are drawn; else every block's repeats on their own.
    """
    blocks = min(timing.batches, key=lambda entry: (abs(math.log(entry.batch / batch)), entry.batch)).blocks
    factors = np.ones((samples, len(blocks)))
    counts = {len(block.samples_s) for block in blocks}
    together = len(counts) == 1
    if counts <= {0, 1}:
        return factors
    step = max(1, _CHUNK_REPEATS // max(counts))
    for start in range(0, samples, step):
        part = slice(start, min(start + step, samples))
        shape = (part.stop - part.start, max(counts))
        passes = rng.integers(0, shape[1], shape) if together else None
        for index, block in enumerate(blocks):
            factors[part, index] = _redrawn(block, passes, shape[0], rng)
    return factors


def _redrawn(
    block: BlockTiming, passes: NDArray[np.int64] | None, samples: int, rng: np.random.Generator
) -> Array | float:
    count = len(block.samples_s)
    if count < 2 or block.seconds == 0:
        return 1.0
    chosen = rng.integers(0, count, (samples, count)) if passes is None else passes
    return np.asarray(np.median(np.array(block.samples_s)[chosen], axis=1) / block.seconds)


def has_repeats(timing: Timing) -> bool:
    """Whether any block was measured more than once."""
    return any(len(block.samples_s) > 1 for entry in timing.batches for block in entry.blocks)
