"""The head of a classifier: its last linear layer, whose size is the number of classes."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from hwrun.errors import BadUsageError
from hwrun.models.catalogue import build_model, with_classes


def head_name(module: torch.nn.Module) -> str:
    """Path of the last linear layer, which every network of the catalogue ends with."""
    name: str = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear)][-1]
    return name


def weighted_reference(name: str, weights: Path) -> str:
    """The catalogue model with as many classes as the head in a file of weights has.

    Raises
    ------
    BadUsageError : no safetensors file, or none of this model.
    """
    key = f"{head_name(build_model(name, meta=True))}.weight"
    try:
        with safe_open(weights, framework="pt") as file:
            if key not in file.keys():  # noqa: SIM118 - a file is no dictionary
                raise BadUsageError(f"weights: {weights} has no {key}, expected a state dict of {name}")
            classes = int(file.get_slice(key).get_shape()[0])
    except (OSError, SafetensorError) as error:
        raise BadUsageError(f"weights: {weights} cannot be read as safetensors ({error}); export it again") from error
    return with_classes(name, classes)
