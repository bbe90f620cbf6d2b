"""A set of images, labelled or not, however it is stored; and which of them a run uses."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwrun.errors import BadUsageError

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageSet:
    """Images by number.

    Parameters
    ----------
    description : where they are from, for people.
    content : what tells this set from another, such as a digest of its files or their names and sizes.
    labels : class of each image; empty where they have none.
    classes : names of the classes, in the order of their numbers.
    load : an image by its number: height × width × 3 of uint8, red first.
    """

    description: str
    content: str
    size: int
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    load: Callable[[int], Pixels] = field(repr=False)

    @property
    def identity(self) -> str:
        """The same for the same images: what a record says it was measured with."""
        return hashlib.sha256(self.content.encode()).hexdigest()[:16]

    def chosen(self, count: int, seed: int) -> tuple[int, ...]:
        """Numbers of that many images, the same for the same seed; the fewer are the first of the more.

        Raises
        ------
        BadUsageError : there are not so many.
        """
        if count > self.size:
            raise BadUsageError(
                f"--data {self.description}: holds {self.size} images, expected {count} or more; ask for fewer"
            )
        numbers = list(range(self.size))
        random.Random(seed).shuffle(numbers)
        return tuple(numbers[:count])

    def labels_of(self, numbers: Sequence[int]) -> tuple[int, ...]:
        """Their labels; empty where the images have none."""
        return tuple(self.labels[number] for number in numbers) if self.labels else ()


def batched(numbers: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    """The numbers in groups of `size`, the last one shorter where they do not divide.

    >>> list(batched((1, 2, 3), 2))
    [(1, 2), (3,)]
    """
    for start in range(0, len(numbers), size):
        yield tuple(numbers[start : start + size])
