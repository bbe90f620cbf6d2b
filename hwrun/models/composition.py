"""Whether a cut model is the model: the traced whole against the original, and block after block as it is delivered.

Each block is run on what the blocks before it would send over a wire. If every one of them then returns the same
bits, laid out alike, as in a run where nothing is ever sent, any cut of the chain gives the whole's output bit for
bit: what is before the cut is the same run, and what is behind it starts from the same tensors. So one pass checks
every cut.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from hwrun.errors import HwrunError
from hwrun.models.cut import BlockChain
from hwrun.models.state_dict import named_tensors
from hwrun.reference import RELATIVE_LIMIT, compare
from hwrun.wire.tensors import as_delivered, memory_order

Tensors = tuple[torch.Tensor, ...]


def check_whole(chain: BlockChain, original: Callable[[torch.Tensor], object], inputs: torch.Tensor) -> float:
    """Relative difference between the outputs of the chain and of the original model; 0 where they are equal in bits.

    Raises
    ------
    HwrunError : more than rounding, weights that the model changes, or an output of another build.
    """
    versions = {name: tensor._version for name, tensor in named_tensors(chain.module).items()}
    with torch.no_grad():
        expected = chain.returned(original(inputs.clone()))
    for name, tensor in named_tensors(chain.module).items():
        if tensor._version != versions[name]:
            raise HwrunError(f"the model changes {name} while it runs, expected weights that stay the same")
    with torch.no_grad():
        found = chain.stage(0, len(chain))(inputs.clone())
    # Booleans and integers are compared as numbers, and what is the same, not-a-number included, does not differ.
    if all(_same_bits(a, b) for a, b in zip(found, expected, strict=True)):
        return 0.0
    difference = compare([t.double() for t in found], [t.double() for t in expected]).relative_difference
    if difference > RELATIVE_LIMIT:
        raise HwrunError(
            f"the traced graph computes something else than the model: relative difference {difference:.3g} for a batch"
            f" of {inputs.shape[0]}, expected at most {RELATIVE_LIMIT:g}. Does it draw random numbers, or branch on"
            " something that tracing cannot see?"
        )
    return difference


def cuts_that_differ(chain: BlockChain, inputs: torch.Tensor) -> list[int]:
    """Cuts behind which a block, given what is sent, returns other bits (or the same laid out in another order)."""
    differing = []
    with torch.no_grad():
        kept: Tensors = (inputs.clone(),)
        for index in range(len(chain)):
            stage = chain.stage(index, index + 1)
            delivered = as_delivered(kept)
            kept = stage(*kept)
            again = stage(*delivered)
            if not all(_same_bits(a, b) and _alike(a, b) for a, b in zip(again, kept, strict=True)):
                differing.append(index)
    return differing


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(_bits(one), _bits(other))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return memory_order(one.squeeze()) == memory_order(other.squeeze())
