"""A folder for one sweep's sockets, token and weights, which the next sweep removes if this one was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hwrun.errors import BadUsageError
from hwrun.wire.address import MAX_PATH_BYTES, Address

_PREFIX = "hwrun-"
_LOCK_NAME = "lock"


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A fresh folder that only this user may enter, gone on exit; what was abandoned is removed first.

    Its owner holds a lock in it for as long as it lives.

    Parameters
    ----------
    parent : where folders are made; default the system's temporary directory.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    remove_abandoned_folders(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    with (folder / _LOCK_NAME).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            _remove(folder)


def socket_in(folder: Path, name: str) -> Address:
    """Where a unix socket of that name is in a scratch folder.

    Raises
    ------
    BadUsageError : the kernel takes no path so long.
    """
    path = folder / name
    if (size := len(os.fsencode(path))) > MAX_PATH_BYTES:
        raise BadUsageError(
            f"TMPDIR: got {folder.parent}, in which a socket's path has {size} bytes ({path}), expected at most"
            f" {MAX_PATH_BYTES}; name a shorter folder, such as TMPDIR=/tmp"
        )
    return Address(path=str(path))


def remove_abandoned_folders(parent: Path | None = None) -> None:
    """Remove the folders of sweeps that were killed: those whose lock nobody holds.

    A sweep does so whether or not it needs a folder itself, since the one that was killed may have had no cell left.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    for lock_path in parent.glob(f"{_PREFIX}*/{_LOCK_NAME}"):
        _remove_if_abandoned(lock_path)


def _remove(folder: Path) -> None:
    """Remove a folder whose lock is held, the lock last.

    A worker that is dying may still write into it; then the rest stays as it was, known by its lock, for the next time.
    """
    for entry in folder.iterdir():
        if entry.name == _LOCK_NAME:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    if [entry.name for entry in folder.iterdir()] == [_LOCK_NAME]:
        (folder / _LOCK_NAME).unlink()
        folder.rmdir()


def _remove_if_abandoned(lock_path: Path) -> None:
    # Another user's folder cannot be opened, and one that goes meanwhile needs no removing.
    with contextlib.suppress(OSError):
        if lock_path.parent.stat().st_uid != os.getuid() or lock_path.parent.is_symlink():
            return
        with lock_path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(lock_path.parent)
