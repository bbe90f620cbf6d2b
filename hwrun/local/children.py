"""The processes of a testbed, which end with it however it ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hwrun.local.namespace_entry import entry_command
from hwrun.local.namespaces import NetworkNamespace

# How long a program may take to end when asked, before it is killed.
_END_TIMEOUT_S = 2.0


class Children:
    """Processes started from one lasting thread, each of which the kernel kills when that thread ends.

    The kernel's tie (PR_SET_PDEATHSIG) is to the starting thread, so a child started from a short-lived one would die
    with it; and if this whole process is killed, the thread ends too.
    """

    def __init__(self) -> None:
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hwrun-children")
        self._started: list[subprocess.Popen[Any]] = []
        # A thread begins in the namespace of the one that makes it: now, and not wherever the first child is asked for.
        self._starter.submit(lambda: None).result()

    def start(
        self, argv: Sequence[str], namespace: NetworkNamespace | None, **popen_kwargs: Any
    ) -> subprocess.Popen[Any]:
        """Start a program, inside the namespace if there is one."""
        options = ["--parent", str(os.getpid())]
        passed = set(popen_kwargs.pop("pass_fds", ()))
        if namespace is not None:
            options += ["--namespace-fd", str(namespace.fileno())]
            passed.add(namespace.fileno())
        command = entry_command(*options, "--", *argv)

        def start() -> subprocess.Popen[Any]:
            child = subprocess.Popen(command, pass_fds=tuple(passed), **popen_kwargs)
            self._started.append(child)
            return child

        return self._starter.submit(start).result()

    def close(self) -> None:
        """End those still running, first by asking. Closing twice is harmless."""
        running = [child for child in self._started if child.poll() is None]
        for child in running:
            child.terminate()
        for child in running:
            try:
                child.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._starter.shutdown()
