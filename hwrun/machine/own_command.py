"""What runs `hwrun` on this host from anywhere: sudo looks for commands in folders of its own (secure_path)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def own_command() -> str:
    """The running hwrun as a shell takes it: its script by an absolute path, or this very Python with its module."""
    # A virtual environment has its scripts beside its Python, which is a link: resolved, it would be another's.
    for script in (Path(sys.argv[0]), Path(sys.executable).with_name("hwrun")):
        if script.name == "hwrun" and script.is_file():
            return shlex.quote(str(script.absolute()))
    return f"{shlex.quote(sys.executable)} -m hwrun.cli"
