"""Processes that a test started, by what they run."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def running(what: str, processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those with `what` in their command or one of its arguments.

    One that has ended runs nothing, whether somebody has waited for it or not: of a zombie no command can be asked.
    """
    found = []
    for process in processes:
        try:
            if any(what in word for word in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:  # a zombie's error is one of these
            continue
    return found


def relays(process: psutil.Process) -> list[psutil.Process]:
    """The packet relays that run below a process."""
    return running("hwrun.local.relay", process.children(recursive=True))
