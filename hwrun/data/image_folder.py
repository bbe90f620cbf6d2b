"""Images from a folder: of one folder a class, whose sorted names number the classes; or all in one, without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwrun.data.images import ImageSet, Pixels
from hwrun.errors import BadUsageError

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


def read_image_folder(folder: Path) -> ImageSet:
    """The images of a folder, in the order of their names.

    Raises
    ------
    BadUsageError : no such folder, no image in it, or images both in it and in folders of classes.
    """
    if not folder.is_dir():
        raise BadUsageError(f"--data: got {folder}, expected synthetic, a folder of images, or one of CIFAR-10")
    flat = _images_in(folder)
    by_class = {sub.name: _images_in(sub) for sub in sorted(folder.iterdir()) if sub.is_dir()}
    by_class = {name: images for name, images in by_class.items() if images}
    if not flat and not by_class:
        raise BadUsageError(
            f"--data {folder}: holds no image ({', '.join(sorted(_SUFFIXES))}), nor folders of them, one a class"
        )
    if flat and by_class:
        raise BadUsageError(f"--data {folder}: holds images beside folders of images, expected one or the other")
    paths = flat or [path for images in by_class.values() for path in images]
    labels = () if flat else tuple(number for number, images in enumerate(by_class.values()) for _ in images)
    return ImageSet(
        description=str(folder),
        content="\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in paths),
        size=len(paths),
        labels=labels,
        classes=tuple(by_class),
        load=lambda number: _read(paths[number]),
    )


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def _read(path: Path) -> Pixels:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # what Pillow's readers stumble over in a damaged file they raise as it is
        raise BadUsageError(f"{path}: cannot be read as an image ({error}); take it out of the folder") from error
