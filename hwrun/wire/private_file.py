"""Files that hold a secret: no other user may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hwrun.errors import BadUsageError


def require_private(path: Path, what: str) -> None:
    """Refuse a file that other users may read.

    Raises
    ------
    BadUsageError : its mode lets them.
    OSError : it is not there.
    """
    status = path.stat()
    open_to = stat.S_IRWXO if _is_credential(path, status) else stat.S_IRWXG | stat.S_IRWXO
    if status.st_mode & open_to:
        raise BadUsageError(
            f"{what}: {path} is open to other users (mode {status.st_mode & 0o777:o}); run: chmod 600 {path}"
        )


def _is_credential(path: Path, status: os.stat_result) -> bool:
    """Whether systemd put it there for this process.

    Such a file is root's, and an access control list lets the service's user read it. The mask of that list stands
    where the group's bits do (acl(5)), which so do not say that a group may read it.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return False
    return path.resolve().parent == Path(folder).resolve() and status.st_uid in (0, os.geteuid())
