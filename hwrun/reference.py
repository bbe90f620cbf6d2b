"""What a pipeline's output is compared with: the unsplit model's, on the same input, in this process."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from hwrun.errors import HwrunError
from hwrun.models.model_source import build_whole, input_for
from hwrun.models.weights import WeightStore, put_model
from hwrun.records import OutputCheck

# Largest relative difference of a sound pipeline under unlike conditions (DESIGN, the model); alike ones give 0.
RELATIVE_LIMIT = 1e-4


class OutputDiffersError(HwrunError):
    """The pipeline does not compute what the unsplit model computes."""


@dataclass(frozen=True)
class Reference:
    """Input and output of the unsplit model, and the stored weights of its blocks."""

    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]
    digests: tuple[str, ...]


class References:
    """References, computed once a model and batch size; its blocks are put into `store`.

    Parameters
    ----------
    threads : of torch, the same as the workers': another number may round differently.
    allowed : factories of networks outside the catalogue that may be imported and called.
    """

    def __init__(self, store: WeightStore, threads: int, seed: int, allowed: Collection[str] = ()) -> None:
        self._store = store
        self._allowed = allowed
        self._seed = seed
        self._known: dict[tuple[str, int], Reference] = {}
        torch.set_num_threads(threads)

    def of(self, model: str, batch: int) -> Reference:
        """The reference of a model, given by name or as a network, at a batch size."""
        if (model, batch) not in self._known:
            module, chain = build_whole(model, seed=self._seed, allowed=self._allowed)
            inputs = input_for(model, batch, self._seed)
            with torch.inference_mode():
                # Cloned: a model may begin with an in-place operation.
                outputs = chain.returned(module(inputs.clone()))
            kept = tuple(tensor.clone() for tensor in outputs)
            self._known[model, batch] = Reference((inputs,), kept, put_model(chain, self._store))
        return self._known[model, batch]


def compare(outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> OutputCheck:
    """How far outputs are from what was expected; relative to the largest expected value.

    Raises
    ------
    OutputDiffersError : other shapes, or values that are no numbers.
    """
    got_shapes, expected_shapes = ([tuple(tensor.shape) for tensor in tensors] for tensors in (outputs, expected))
    if got_shapes != expected_shapes:
        raise OutputDiffersError(f"output: got shapes {got_shapes}, expected {expected_shapes}")
    difference = max(float((a - b).abs().max()) for a, b in zip(outputs, expected, strict=True))
    scale = max(float(tensor.abs().max()) for tensor in expected)
    relative = difference / scale if scale else difference
    if not math.isfinite(relative):
        raise OutputDiffersError(f"output: differs by {difference} from values up to {scale}; expected numbers")
    return OutputCheck(
        bitwise_equal=all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True)),
        max_abs_difference=difference,
        relative_difference=relative,
    )


def require_equal(check: OutputCheck) -> None:
    """Raise OutputDiffersError unless the difference is within RELATIVE_LIMIT."""
    if check.relative_difference > RELATIVE_LIMIT:
        raise OutputDiffersError(
            f"output: relative difference {check.relative_difference:.3g} from the unsplit model's,"
            f" expected at most {RELATIVE_LIMIT:g}"
        )
