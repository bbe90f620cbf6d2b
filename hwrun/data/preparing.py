"""Images as a model takes them: its size, numbers from black to white, and centred as it was trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hwrun.data.images import ImageSet, Pixels
from hwrun.errors import BadUsageError

# Means and deviations of ImageNet's channels, by which torchvision's weights were trained (its models' documentation).
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
# The shorter side before the middle is cut out, over the model's size: 256 for 224, as torchvision evaluates.
_MARGIN = 8 / 7


def prepared(images: ImageSet, numbers: Sequence[int], input_shape: tuple[int, ...]) -> torch.Tensor:
    """A batch of these images, shape (batch, channels, height, width), float32.

    Resized by the shorter side with a margin and cut out of the middle; images smaller than the model's input are only
    resized, for cutting would lose what little there is.

    Raises
    ------
    BadUsageError : the model takes no colour images.
    """
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise BadUsageError(f"--data: the model takes inputs of shape {input_shape}, expected colour images, (3, …, …)")
    return torch.stack([_prepared(images.load(number), input_shape[1], input_shape[2]) for number in numbers])


def _prepared(pixels: Pixels, height: int, width: int) -> torch.Tensor:
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0).float() / 255
    own_height, own_width = image.shape[2:]
    if own_height > height and own_width > width:
        scale = max(height / own_height, width / own_width) * _MARGIN
        size = (max(height, round(own_height * scale)), max(width, round(own_width * scale)))
        image = _resized(image, size)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        image = image[:, :, top : top + height, left : left + width]
    else:
        image = _resized(image, (height, width))
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _DEVIATION))
    return (image[0] - mean) / deviation


def _resized(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    resized = torch.nn.functional.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp(0, 1)


def correct(outputs: torch.Tensor, labels: Sequence[int]) -> int:
    """How many rows of logits have their label's as the largest."""
    return int((outputs.argmax(dim=1) == torch.tensor(labels)).sum())
