"""Writing a file whole or not at all, since somebody may already read the one it replaces."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a file beside `path`, which takes its place once it is whole and on the disk.

    A link goes on pointing where it does. What is no plain file, such as a pipe or /dev/null, is written to as it is:
    to replace it would be to remove it.

    Raises
    ------
    OSError : it cannot be written; what was there before still is.
    """
    if path.exists() and not path.is_file():
        write(path)
        return
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        write(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut may leave the name without what it stands for
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
