"""Training a classifier's head on the features of a frozen backbone.

Features are what the last linear layer takes. They do not change while it is trained, so each image goes through the
backbone once, and an epoch over tens of thousands of images takes a second. All randomness comes from one seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hwrun.data.images import ImageSet, batched
from hwrun.data.preparing import prepared
from hwrun.errors import BadUsageError

_FEATURE_BATCH = 16
_TRAINING_BATCH = 64
_SHARE_HELD_BACK = 0.1
_WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Features:
    """Features of images, one row each, and their labels."""

    rows: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Epoch:
    """After one pass over the training images: mean loss on them, and share right of those held back."""

    number: int
    loss: float
    validation_top1: float


def features_of(
    module: torch.nn.Module,
    head: str,
    images: ImageSet,
    numbers: Sequence[int],
    input_shape: tuple[int, ...],
    progress: Callable[[int, int], None],
) -> Features:
    """What the layer `head` of a model takes for each of these images.

    Raises
    ------
    BadUsageError : the images have no labels.
    """
    if not images.labels:
        raise BadUsageError(f"--data {images.description}: its images have no labels, expected some to learn from")
    taken: list[torch.Tensor] = []
    hook = module.get_submodule(head).register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].clone()))
    try:
        done = 0
        for some in batched(numbers, _FEATURE_BATCH):
            with torch.inference_mode():
                module(prepared(images, some, input_shape))
            done += len(some)
            progress(done, len(numbers))
    finally:
        hook.remove()
    return Features(torch.cat(taken).clone(), torch.tensor(images.labels_of(numbers)))


def train_head(
    features: Features,
    classes: int,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> torch.nn.Linear:
    """A linear layer trained on features; `on_epoch` is told of each pass.

    A tenth of the features is held back, and never trained on. The learning rate falls to nothing along half a cosine.
    Training sees features with their mean taken away and their deviation made one, since backbones differ in scale by
    orders of magnitude; the layer that is returned takes them as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(features.rows), generator=generator)
    held_back = max(1, round(len(order) * _SHARE_HELD_BACK))
    validation, training = order[:held_back], order[held_back:]
    if len(training) == 0:
        raise BadUsageError(f"--data: got {len(order)} images to train on, expected 2 or more")
    mean = features.rows[training].mean(dim=0)
    deviation = features.rows[training].std(dim=0, correction=0)
    # What hardly varies says nothing, and would be blown up to noise.
    scale = torch.where(deviation > 1e-3 * deviation.max(), deviation, torch.inf)
    rows = (features.rows - mean) / scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(features.rows.shape[1], classes)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for number in range(1, epochs + 1):
        losses = []
        shuffled = training[torch.randperm(len(training), generator=generator)]
        for some in torch.split(shuffled, _TRAINING_BATCH):
            loss = torch.nn.functional.cross_entropy(layer(rows[some]), features.labels[some])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            optimiser.step()
            losses.append(float(loss.detach()) * len(some))
        schedule.step()
        right = share_right(layer, Features(rows[validation], features.labels[validation]))
        on_epoch(Epoch(number, sum(losses) / len(training), right))
    with torch.no_grad():
        layer.weight.copy_(layer.weight / scale)
        layer.bias.copy_(layer.bias - layer.weight @ mean)
    return layer


def share_right(layer: torch.nn.Linear, features: Features) -> float:
    """Share of the features whose label the layer has right."""
    with torch.inference_mode():
        return float((layer(features.rows).argmax(dim=1) == features.labels).float().mean())
