"""Named tensors of a module, and how two sets of them differ."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def named_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by fully-qualified name, those left out of the state dict included."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return parameters | dict(module.named_buffers(remove_duplicate=False))


def differences(given: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    """What keeps `given` from standing in for `expected`: names, shapes and dtypes; empty where nothing does."""
    faults = [f"missing {name}" for name in expected if name not in given]
    faults += [f"unexpected {name}" for name in given if name not in expected]
    faults += [
        f"{name} is {_described(given[name])}, expected {_described(wanted)}"
        for name, wanted in expected.items()
        if name in given and _described(given[name]) != _described(wanted)
    ]
    shown = 8
    more = f"; and {len(faults) - shown} more" if len(faults) > shown else ""
    return "; ".join(faults[:shown]) + more


def _described(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
