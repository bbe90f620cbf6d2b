"""What a pipeline's output is compared with: the unsplit model's, on the same input, in this process."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from hwrun.data.images import ImageSet, batched
from hwrun.data.preparing import correct, prepared
from hwrun.errors import HwrunError
from hwrun.models.cut import BlockChain
from hwrun.models.head import weighted_reference
from hwrun.models.model_source import build_whole, input_for
from hwrun.models.weights import WeightStore, put_model
from hwrun.records import Accuracy, OutputCheck

# Largest relative difference of a sound pipeline under unlike conditions (DESIGN, the model); alike ones give 0.
RELATIVE_LIMIT = 1e-4
_ACCURACY_BATCH = 16


class OutputDiffersError(HwrunError):
    """The pipeline does not compute what the unsplit model computes."""


@dataclass(frozen=True)
class Given:
    """What a user gave to measure with: images and weights by model; without, both are random by the seed.

    `accuracy_images` is how many images the unsplit model's accuracy is computed on, at most.
    """

    images: ImageSet | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    accuracy_images: int = 256


@dataclass(frozen=True)
class Reference:
    """Input and output of the unsplit model, and the stored weights of its blocks.

    `source` is what builds it, on workers too. `labels` are the inputs', empty where there are none, or none that the
    model could have learnt; `unsplit_correct` of `unsplit_images` are then right.
    """

    source: str
    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]
    digests: tuple[str, ...]
    labels: tuple[int, ...] = ()
    unsplit_correct: int = 0
    unsplit_images: int = 0

    def accuracy(self, outputs: Sequence[torch.Tensor]) -> Accuracy | None:
        """How many of the inputs' labels these outputs have right, beside the unsplit model's accuracy."""
        if not self.labels:
            return None
        return Accuracy(
            correct=correct(outputs[0], self.labels),
            images=len(self.labels),
            unsplit_correct=self.unsplit_correct,
            unsplit_images=self.unsplit_images,
        )


class References:
    """References, computed once a model and batch size; its blocks are put into `store`.

    Parameters
    ----------
    threads : of torch, the same as the workers': another number may round differently.
    allowed : factories of networks outside the catalogue that may be imported and called.
    """

    def __init__(
        self,
        store: WeightStore,
        threads: int,
        seed: int,
        allowed: Collection[str] = (),
        given: Given | None = None,
    ) -> None:
        self._store = store
        self._allowed = allowed
        self._seed = seed
        self._given = given or Given()
        self._known: dict[tuple[str, int], Reference] = {}
        torch.set_num_threads(threads)

    def of(self, model: str, batch: int) -> Reference:
        """The reference of a model, given by name or as a network, at a batch size."""
        if (model, batch) not in self._known:
            self._known[model, batch] = self._made(model, batch)
        return self._known[model, batch]

    def _made(self, model: str, batch: int) -> Reference:
        weights = self._given.weights.get(model)
        source = model if weights is None else weighted_reference(model, weights)
        module, chain = build_whole(source, seed=self._seed, allowed=self._allowed, weights=weights)
        images = self._given.images
        numbers = () if images is None else images.chosen(batch, self._seed)
        shape = tuple(input_for(source, 1, self._seed).shape[1:])
        inputs = input_for(source, batch, self._seed) if images is None else prepared(images, numbers, shape)
        with torch.inference_mode():
            # Cloned: a model may begin with an in-place operation.
            outputs = chain.returned(module(inputs.clone()))
        kept = tuple(tensor.clone() for tensor in outputs)
        reference = Reference(source, (inputs,), kept, put_model(chain, self._store))
        if images is None or weights is None or not can_be_right(images, kept):
            return reference
        right, seen = self._accuracy(module, chain, images, shape)
        return replace(reference, labels=images.labels_of(numbers), unsplit_correct=right, unsplit_images=seen)

    def _accuracy(
        self, module: torch.nn.Module, chain: BlockChain, images: ImageSet, shape: tuple[int, ...]
    ) -> tuple[int, int]:
        count = min(images.size, self._given.accuracy_images)
        right = 0
        for numbers in batched(images.chosen(count, self._seed), _ACCURACY_BATCH):
            with torch.inference_mode():
                outputs = chain.returned(module(prepared(images, numbers, shape)))
            right += correct(outputs[0], images.labels_of(numbers))
        return right, count


def can_be_right(images: ImageSet, outputs: Sequence[torch.Tensor]) -> bool:
    """Whether the images have labels, and outputs are a row of one number for each class of theirs."""
    return bool(images.labels) and outputs[0].dim() == 2 and outputs[0].shape[1] == len(images.classes)


def compare(outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> OutputCheck:
    """How far outputs are from what was expected; relative to the largest expected value.

    Raises
    ------
    OutputDiffersError : other shapes, or values that are no numbers.
    """
    got_shapes, expected_shapes = ([tuple(tensor.shape) for tensor in tensors] for tensors in (outputs, expected))
    if got_shapes != expected_shapes:
        raise OutputDiffersError(f"output: got shapes {got_shapes}, expected {expected_shapes}")
    differences = [float((a - b).abs().max()) for a, b in zip(outputs, expected, strict=True)]
    scale = max(float(tensor.abs().max()) for tensor in expected)
    # Each by itself: Python's maximum of 0 and NaN is whichever comes first.
    for difference in differences:
        if not math.isfinite(difference):
            raise OutputDiffersError(f"output: differs by {difference} from values up to {scale}; expected numbers")
    largest = max(differences)
    return OutputCheck(
        bitwise_equal=all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True)),
        max_abs_difference=largest,
        relative_difference=largest / scale if scale else largest,
    )


def require_equal(check: OutputCheck) -> None:
    """Raise OutputDiffersError unless the difference is within RELATIVE_LIMIT."""
    if check.relative_difference > RELATIVE_LIMIT:
        raise OutputDiffersError(
            f"output: relative difference {check.relative_difference:.3g} from the unsplit model's,"
            f" expected at most {RELATIVE_LIMIT:g}"
        )
