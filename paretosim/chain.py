"""The chain of stations that every split of a model over two devices shares: stage times, and hops between hosts.

Nothing here depends on a link's rate or delay, so that one chain serves a million links.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from paretosim.errors import BadInputError

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import ArrayLike, NDArray

Splits = Literal["all", "interior"]
Source = Literal["stage1", "sink"]
Sink = Literal["last", "first"]

# Sums of whole quanta below this many are exact in a float64.
_EXACT_QUANTA_BITS = 52


class Hop(msgspec.Struct, frozen=True):
    """A link that batches cross: forward (`link1`), from a master on (`relay`), or back (`input`, `return`).

    Over more than two devices there are `link2` …, and `relay1` …. `payload_bytes` and `crossed` are of shape
    (splits,): whole batches, and where the hop takes place at all.
    """

    name: str
    payload_bytes: NDArray[np.int64]
    crossed: NDArray[np.bool_]

    @property
    def forward(self) -> bool:
        """Whether it goes the way of the activations, from one device towards the next."""
        return self.name.startswith("link")

    @property
    def relayed(self) -> bool:
        """Whether it leads from a master on, behind a forward hop."""
        return self.name.startswith("relay")


def splits_of(blocks: int, which: Splits) -> NDArray[np.int64]:
    """Split numbers of a model: 0 … N, or 1 … N − 1 where only `interior` ones are wanted."""
    if which == "all":
        return np.arange(blocks + 1)
    if blocks < 2:
        raise BadInputError(f"splits: got interior of {blocks} block(s), expected two blocks or more")
    return np.arange(1, blocks)


def stage_times_s(block_s: Sequence[ArrayLike], splits: NDArray[np.int64], speed: float = 1.0) -> NDArray[np.float64]:
    """(…, splits, 2) seconds: the blocks before the split on the first device, the rest on the second.

    Block times become whole multiples of a quantum, 2⁻⁵² of the power of two above their total. Their sums are then
    exact in any order, so that splits whose times are equal on paper are equal here, to the last bit.

    Parameters
    ----------
    block_s : (…, blocks) seconds of each block of a batch on the first and on the second device.
    speed : divides all times, as `hwrun --speed` does.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large for a number is the caller's to refuse
        scaled = [np.asarray(times, dtype=np.float64) / speed for times in block_s]
        total = np.asarray(sum(times.sum(axis=-1, keepdims=True) for times in scaled))
        scaled = [in_quanta(times, total) for times in scaled]
        zero = np.zeros_like(total)
        before = np.concatenate([zero, scaled[0].cumsum(axis=-1)], axis=-1)
        after = np.concatenate([zero, scaled[1][..., ::-1].cumsum(axis=-1)], axis=-1)[..., ::-1]
    return np.stack([before[..., splits], after[..., splits]], axis=-1)


def in_quanta(times_s: NDArray[np.float64], total_s: ArrayLike) -> NDArray[np.float64]:
    """Times as whole multiples of the quantum of `total_s`: sums up to about that are exact in any order."""
    total = np.asarray(total_s, dtype=np.float64)
    countable = np.isfinite(total) & (total > 0)
    # Exponents and not a quotient: the quantum of very short times is too small for a number.
    exponent = _EXACT_QUANTA_BITS - np.frexp(np.where(countable, total, 1.0))[1]
    return np.where(countable, np.ldexp(np.rint(np.ldexp(times_s, exponent)), -exponent), times_s)


def hops_of(cut_bytes: NDArray[np.int64], splits: NDArray[np.int64], *, source: Source, sink: Sink) -> tuple[Hop, ...]:
    """The links that a batch crosses, in chain order; stages 1 and 2 stand before and after `link1`.

    The input crosses the reverse link first where it is at a sink that is last; the output crosses it at the end
    where the sink is first, unless the second stage is empty: then the result is there already.

    Parameters
    ----------
    cut_bytes : (blocks + 1,) bytes of a batch across each cut.
    """
    always = np.ones(len(splits), dtype=np.bool_)
    crossed = splits < len(cut_bytes) - 1 if sink == "first" else always
    hops = [Hop("link1", cut_bytes[splits] * crossed, crossed)]
    if source == "sink" and sink == "last":
        hops.insert(0, Hop("input", np.full(len(splits), cut_bytes[0]), always))
    if sink == "first":
        hops.append(Hop("return", cut_bytes[-1] * crossed, crossed))
    return tuple(hops)
