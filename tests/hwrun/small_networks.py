"""Small networks whose graphs show one difficulty each; also what `--module` is tested with."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def conv(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    """Two levels down and up again, with a skip on each; returns one map a class."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.enter = conv(3, width)
        self.down1, self.down2 = conv(width, 2 * width, 2), conv(2 * width, 4 * width, 2)
        self.middle = conv(4 * width, 4 * width)
        self.up2, self.up1 = conv(6 * width, 2 * width), conv(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.enter(x)
        second = self.down1(first)
        h = self.middle(self.down2(second))
        h = nn.functional.interpolate(h, size=second.shape[-2:], mode="nearest")
        h = self.up2(torch.cat([h, second], 1))
        h = nn.functional.interpolate(h, size=first.shape[-2:], mode="nearest")
        return self.head(self.up1(torch.cat([h, first], 1)))


class InPlace(nn.Module):
    """Changes a tensor that is also read later under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x)
        view = h.view(-1, 2, 3)
        k = self.two(h)
        h.relu_()  # seen through `view`
        k = self.three(k)
        return k + view.reshape(-1, 6)


class Attention(nn.Module):
    """The batch as second dimension, sizes read from shapes, and a mask made of weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.bias = nn.Parameter(torch.randn(16))
        self.attend = nn.MultiheadAttention(16, 4)
        self.mix, self.head = nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._assert(x.shape[2] == 8, "eight features")
        samples = x.shape[0]
        gate = torch.sigmoid(self.bias) * 2
        h = torch.cat([self.token.expand(samples, -1, -1), self.embed(x)], 1).permute(1, 0, 2)
        h = h + self.attend(h, h, h)[0]
        h = self.mix(h) * gate
        h = h.permute(1, 0, 2).reshape(samples * h.shape[0], 16)
        return self.head(h).view(samples, -1, 5).mean(1)


class ShapeBranch(nn.Module):
    """Branches on a shape: symbolic tracing cannot follow, exporting can."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] != 4:
            raise ValueError("four features")
        total = torch.zeros(4)
        total.add_(self.one(x.new_ones(4)))
        h = self.one(x) + total
        for _ in range(x.shape[1] // 2):
            h = torch.relu_(self.two(h))
        return h


class ValueBranch(nn.Module):
    """Branches on a value: nothing can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x)
        if h.sum() > 0:
            return h
        return -h


class OverTheBatch(nn.Module):
    """Carries a mean over the batch past a layer: a tensor of fixed size that depends on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x)
        mean = h.mean(0)
        return self.three(self.two(h) - mean)


class Returns(nn.Module):
    """Returns what it was told to beside its result."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 2)
        self.what = what

    def forward(self, x: torch.Tensor) -> Any:
        h = self.one(x)
        result = self.two(h)
        if self.what == "dictionary":
            return {"out": result, "features": h, "kind": "both"}
        if self.what == "twice":
            return result, result
        return result, result.mean()


class Counting(nn.Module):
    """Counts its calls in a buffer, by one or by what it is given."""

    def __init__(self, by_samples: bool) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.by_samples = by_samples
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(x.sum() if self.by_samples else 1)
        return self.one(x) * self.calls


class Noisy(nn.Module):
    """Draws anew on every call."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x) + torch.rand_like(x)


def failing() -> nn.Module:
    raise RuntimeError("no such checkpoint")


def not_a_module() -> int:
    return 3


number = 3
