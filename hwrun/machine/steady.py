"""Steady timing: what has to be fixed about a process before a number from it means anything.

glibc's allocator maps every large activation from the kernel and gives it back after use, so a forward pass
spends much of its time on page faults, and how much depends on what ran before it in the process. With the
settings below, freed memory stays in the heap and is used again. They are read once, when a process starts, so a
worker is spawned with them and a command started without them starts itself again. torch is not imported here.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn

from hwrun.errors import BadUsageError, HwrunError
from hwrun.machine.clock_state import Firmware, ask_vcgencmd, clock_state
from hwrun.machine.packages import installed_version
from hwrun.machine.system_files import SYSTEM, cpuinfo, scaled, text_of
from hwrun.records.links import Scalar

# Larger than any activation, and a size_t on 32-bit systems too.
_KEEP_BYTES = 1 << 30
# Growing the heap in big steps makes a first pass fault less often; it is address space until it is touched.
_TOP_PAD_BYTES = 64 << 20
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(_KEEP_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(_KEEP_BYTES),
    "MALLOC_TOP_PAD_": str(_TOP_PAD_BYTES),
    # One arena: those of other threads are at most 64 MB each and are unmapped when empty, and a worker
    # computes in a thread of its own.
    "MALLOC_ARENA_MAX": "1",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_RESTARTED = "HWRUN_STEADY_RESTART"


def steady_environment(threads: int) -> dict[str, str]:
    """Environment variables for a process that computes with `threads` threads; add them to its own.

    >>> steady_environment(1)["OMP_NUM_THREADS"]
    '1'
    """
    if threads < 1:
        raise BadUsageError(f"threads: got {threads}, expected 1 or more")
    return _ALLOCATOR | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def is_steady(environ: Mapping[str, str], threads: int) -> bool:
    """Whether a process with this environment was started steady."""
    return all(environ.get(name) == value for name, value in steady_environment(threads).items())


def restart_if_unsteady(
    threads: int,
    environ: MutableMapping[str, str] = os.environ,
    command_line: Sequence[str] | None = None,
    execute: Callable[[str, list[str], Mapping[str, str]], NoReturn] = os.execve,
) -> None:
    """Start this very command again in a steady environment, unless it is in one; call it before torch loads.

    Parameters
    ----------
    environ, command_line, execute : the process's own (`sys.orig_argv`, `os.execve`); arguments for tests.

    Raises
    ------
    HwrunError : it was restarted already and still is not steady: something strips its environment.
    """
    if is_steady(environ, threads):
        environ.pop(_RESTARTED, None)
        return
    if environ.get(_RESTARTED) == "1":
        wrong = [name for name, value in steady_environment(threads).items() if environ.get(name) != value]
        raise HwrunError(
            f"environment: {', '.join(wrong)} did not survive a restart; set them before starting the command,"
            " as docs/measuring.md lists them"
        )
    if "torch" in sys.modules:
        raise HwrunError("environment: torch was loaded before it was fixed; call restart_if_unsteady first")
    own = sys.orig_argv if command_line is None else command_line
    sys.stdout.flush()
    sys.stderr.flush()
    execute(sys.executable, [sys.executable, *own[1:]], {**environ, **steady_environment(threads), _RESTARTED: "1"})


def pin_to_cores(cores: Collection[int]) -> None:
    """Keep this process, and threads it starts later, on these cores.

    Raises
    ------
    BadUsageError : no core given, or one that the process may not use.
    HwrunError : this system cannot pin.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise HwrunError(f"cores: {platform.system()} cannot pin a process to cores; leave the option out")
    allowed = os.sched_getaffinity(0)
    if not cores or not allowed.issuperset(cores):
        raise BadUsageError(f"cores: got {_listed(cores)}, expected some of {_listed(allowed)}")
    os.sched_setaffinity(0, cores)


def usable_cores() -> tuple[int, ...]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def parse_cores(text: str) -> tuple[int, ...]:
    """Core numbers from `0`, `0,2` or `0-3`.

    >>> parse_cores("0,2-3")
    (0, 2, 3)
    """
    cores: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise BadUsageError(f"cores: got {text!r}, expected numbers such as 0 or 0,2 or 0-3")
        cores.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cores))


def conditions(threads: int, system: Path = SYSTEM, firmware: Firmware = ask_vcgencmd) -> dict[str, Scalar]:
    """What this process runs under, flat, for records and profiles; None where the system does not say.

    Parameters
    ----------
    threads : computing threads that were asked for.
    system : root of the file system that /proc and /sys are read from.
    firmware : asks a Raspberry Pi's firmware.
    """
    cores = usable_cores()
    frequency = f"sys/devices/system/cpu/cpu{cores[0]}/cpufreq"
    load = text_of(system / "proc/loadavg")
    return {
        "threads": threads,
        "cores": _listed(cores),
        "cpu_model": cpu_model(system),
        "machine": platform.machine(),
        **clock_state(cores[0], system, firmware),
        "frequency_max_hz": scaled(system / frequency / "cpuinfo_max_freq", 1000),
        "governor": text_of(system / frequency / "scaling_governor"),
        "load_1min": float(load.split()[0]) if load else None,
        "allocator": _allocator(os.environ),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": installed_version("torch"),
    }


def steal_s(system: Path = SYSTEM) -> float | None:
    """CPU seconds since boot that a hypervisor gave to others while this machine had work; None if nothing says."""
    stat = text_of(system / "proc/stat")
    fields = stat.splitlines()[0].split() if stat else []
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None


def cpu_model(system: Path = SYSTEM) -> str | None:
    """The board's or the processor's name."""
    board = text_of(system / "proc/device-tree/model")
    if board:
        return board.strip("\0")
    return cpuinfo("model name", system) or platform.processor() or None


def _allocator(environ: Mapping[str, str]) -> str:
    try:
        library = os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (AttributeError, ValueError):
        library = "not glibc"
    preloaded = environ.get("LD_PRELOAD", "")
    kept = all(environ.get(name) == value for name, value in _ALLOCATOR.items())
    return f"{library}, {'freed memory kept' if kept else 'defaults'}{f', preloaded {preloaded}' if preloaded else ''}"


def _listed(cores: Collection[int]) -> str:
    return ",".join(map(str, sorted(cores))) or "none"
