"""Writing a file whole or not at all, since somebody may already read the one it replaces; and whether one can."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from paretosim.errors import BadInputError


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


def require_writable(folder: Path) -> None:
    """Refuse a folder that takes no files, before minutes of computing are lost to it; what is made for it goes again.

    Raises
    ------
    BadInputError : nothing can be written there.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInputError(
            f"-o: {folder} takes no files ({error.strerror or error}), expected a folder of yours; give another"
        ) from error
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
