"""CIFAR-10 from the folders it is distributed as: `cifar-10-batches-bin`, or `cifar-10-batches-py`, which is pickled.

A pickle can run code when it is read. The reader here admits what those files hold and nothing else: numbers, texts,
lists, dictionaries and NumPy arrays of bytes. The binary version needs no such care.
(Format: https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout" and "Binary version".)
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hwrun.data.images import ImageSet, Pixels
from hwrun.errors import BadUsageError

Part = Literal["train", "test"]
SIDE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGE_BYTES = 3 * SIDE * SIDE
_STEMS: dict[Part, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
# A file holds 10000 images; its pickle is 31 MB. What is far longer is something else.
_MOST_FILE_BYTES = 256 * 2**20


def is_cifar10(folder: Path) -> bool:
    """Whether the folder holds CIFAR-10 in either version."""
    return (folder / "test_batch.bin").is_file() or (folder / "test_batch").is_file()


def read_cifar10(folder: Path, part: Part) -> ImageSet:
    """The training or the test images.

    Raises
    ------
    BadUsageError : a file is missing, cut short, or holds something else; names it.
    """
    is_binary = (folder / "test_batch.bin").is_file()
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    digest = hashlib.sha256()
    for stem in _STEMS[part]:
        path = folder / (f"{stem}.bin" if is_binary else stem)
        try:
            if path.stat().st_size > _MOST_FILE_BYTES:
                raise BadUsageError(f"{path}: has {path.stat().st_size} bytes, expected at most {_MOST_FILE_BYTES}")
            raw = path.read_bytes()
        except OSError as error:
            raise BadUsageError(f"{path}: cannot be read ({error.strerror}); expected CIFAR-10's {stem}") from error
        digest.update(raw)
        some_images, some_labels = (_from_binary if is_binary else _from_pickle)(path, raw)
        images.append(some_images)
        labels += some_labels
    planes = np.concatenate(images)
    return ImageSet(
        description=f"{folder} (CIFAR-10, {part})",
        content=digest.hexdigest(),
        size=len(planes),
        labels=tuple(labels),
        classes=CLASSES,
        load=lambda number: _image(planes[number]),
    )


def _image(planes: NDArray[np.uint8]) -> Pixels:
    """Rows of pixels from a red, a green and a blue plane in a row."""
    return np.ascontiguousarray(planes.reshape(3, SIDE, SIDE).transpose(1, 2, 0))


def _from_binary(path: Path, raw: bytes) -> tuple[NDArray[np.uint8], list[int]]:
    if not raw or len(raw) % (1 + _IMAGE_BYTES):
        raise BadUsageError(f"{path}: has {len(raw)} bytes, expected whole records of {1 + _IMAGE_BYTES}; copy it anew")
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + _IMAGE_BYTES)
    return records[:, 1:], _checked_labels(path, records[:, 0].tolist())


def _from_pickle(path: Path, raw: bytes) -> tuple[NDArray[np.uint8], list[int]]:
    found = read_plain_pickle(raw, path)
    data, labels = (found.get(name) for name in (b"data", b"labels")) if isinstance(found, dict) else (None, None)
    is_sound = (
        isinstance(data, np.ndarray)
        and data.dtype == np.uint8
        and data.ndim == 2
        and data.shape[1] == _IMAGE_BYTES
        and isinstance(labels, list)
        and len(labels) == len(data) > 0
    )
    if not is_sound:
        raise BadUsageError(f"{path}: expected a dictionary of data (n × {_IMAGE_BYTES}, uint8) and n labels")
    assert isinstance(data, np.ndarray)
    assert isinstance(labels, list)
    return data, _checked_labels(path, labels)


def _checked_labels(path: Path, labels: Sequence[object]) -> list[int]:
    found = [label for label in labels if type(label) is int and 0 <= label < len(CLASSES)]
    if len(found) != len(labels):
        raise BadUsageError(f"{path}: holds labels other than 0 to {len(CLASSES) - 1}; expected CIFAR-10's")
    return found


def read_plain_pickle(raw: bytes, path: Path) -> object:
    """What a pickle of numbers, texts, lists, dictionaries and plain arrays holds; texts of Python 2 as bytes.

    Raises
    ------
    BadUsageError : it asks for anything else, and was not read on; or is no pickle.
    """
    try:
        return _PlainUnpickler(raw, path).load()
    except BadUsageError:
        raise
    # Whatever a broken or hostile pickle makes the machine raise: it is not what was expected.
    except Exception as error:
        raise BadUsageError(f"{path}: is not a whole pickle ({type(error).__name__}: {error}); copy it anew") from error


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the pickles that Python 2 can read."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _plain_dtype(*arguments: Any) -> np.dtype[Any]:
    """A type of numbers: one of objects would hold addresses."""
    found: np.dtype[Any] = np.dtype(*arguments)
    if found.kind not in "uif":
        raise ValueError(f"an array of {found}")
    return found


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every name but those that an array of numbers is made with."""

    _ADMITTED: ClassVar[dict[tuple[str, str], object]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _plain_dtype,
        ("_codecs", "encode"): _latin1,
        # Where NumPy keeps what makes an empty array has moved over time; its own __reduce__ names the present place.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def __init__(self, raw: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(raw), encoding="bytes")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle names, if it is admitted."""
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise BadUsageError(
                f"{self._path}: its pickle asks for {module}.{name}, expected plain numbers, texts and arrays; it was"
                " not read on. Use the binary version (cifar-10-batches-bin), which needs no pickle"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        """Nothing lies outside."""
        raise BadUsageError(f"{self._path}: its pickle refers to something outside it, expected a whole one")
