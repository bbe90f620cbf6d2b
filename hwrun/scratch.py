"""A folder for one sweep's sockets, token and weights, which the next sweep removes if this one was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "hwrun-"
_LOCK_NAME = "lock"


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A fresh folder that only this user may enter, gone on exit.

    Its owner holds a lock in it for as long as it lives, so a folder whose lock is free was left by a sweep that was
    killed; those are removed first.

    Parameters
    ----------
    parent : where folders are made; default the system's temporary directory.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    for other in parent.glob(f"{_PREFIX}*/{_LOCK_NAME}"):
        _remove_if_abandoned(other)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    with (folder / _LOCK_NAME).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(lock_path: Path) -> None:
    # Another user's folder cannot be opened, and one that goes meanwhile needs no removing.
    with contextlib.suppress(OSError):
        if lock_path.parent.stat().st_uid != os.getuid() or lock_path.parent.is_symlink():
            return
        with lock_path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_path.parent, ignore_errors=True)
