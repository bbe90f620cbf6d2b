"""What `--data` names."""

from __future__ import annotations

from pathlib import Path

from hwrun.data.cifar10 import Part, is_cifar10, read_cifar10
from hwrun.data.image_folder import read_image_folder
from hwrun.data.images import ImageSet

SYNTHETIC = "synthetic"


def open_images(text: str, part: Part = "test") -> ImageSet | None:
    """The images that are named; None for synthetic inputs.

    Raises
    ------
    BadUsageError : no such folder, or nothing in it that can be used.
    """
    if text == SYNTHETIC:
        return None
    folder = Path(text)
    return read_cifar10(folder, part) if is_cifar10(folder) else read_image_folder(folder)
