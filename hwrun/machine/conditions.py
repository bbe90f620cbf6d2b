"""Conditions of a run: versions that must be alike, and what a manifest says of the host."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import psutil

from hwrun.machine import system_files
from hwrun.machine.packages import installed_version, package_versions
from hwrun.machine.steady import usable_cores
from hwrun.machine.system_files import SYSTEM, cpuinfo, text_of
from hwrun.records import Scalar
from hwrun.wire.frames import VERSION

_SYSCTLS = (
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_sack",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "kernel.sched_rt_runtime_us",
)


@cache
def alike_versions() -> dict[str, str]:
    """What two ends of a control connection must agree on: the protocol, this package and its code, and torch."""
    from paretosim import __version__

    return {
        "protocol": str(VERSION),
        "paretosim": __version__,
        "code": _code_identity(),
        "torch": installed_version("torch") or "none",
    }


def _code_identity() -> str:
    """Hash of the source of `hwrun` and of the nouns it takes from `paretosim`: checkouts of one version may differ."""
    sha256 = hashlib.sha256()
    for name, path in _sources().items():
        sha256.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return sha256.hexdigest()[:12]


def _sources() -> dict[str, Path]:
    """Every source file by its path within its package, in order."""
    found: dict[str, Path] = {}
    for package in ("hwrun", "paretosim"):
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None  # its __init__.py
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py")):
            found[f"{package}/{path.relative_to(folder).as_posix()}"] = path
    return found


def version_differences(own: dict[str, str], other: dict[str, str], own_name: str, other_name: str) -> str:
    """A sentence naming every version that differs on both sides; empty where none does.

    Which build of a torch it is (`+cu126`, its local version label of PEP 440) may differ: a board has none that a
    server with a GPU wants, and outputs are compared with a tolerance for that. Both are recorded in full.
    """
    return "; ".join(
        f"{name}: {own_name} has {own.get(name, 'none')}, {other_name} has {other.get(name, 'none')}"
        for name in sorted(own.keys() | other.keys())
        if _released(name, own.get(name)) != _released(name, other.get(name))
    )


def _released(name: str, version: str | None) -> str | None:
    """A version without its build where that may differ."""
    return version.partition("+")[0] if name == "torch" and version is not None else version


def versions() -> dict[str, str]:
    """Versions of everything that takes part in a measurement."""
    return {
        # Not the code: a sweep that a mended program resumes is the same sweep.
        **{name: value for name, value in alike_versions().items() if name != "code"},
        **{name: found or "none" for name, found in package_versions().items()},
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def host() -> dict[str, Scalar]:
    """The machine a run is on: processor, cores this process may use, memory, governor, load before it began."""
    return {
        "machine": platform.machine(),
        "processor": cpuinfo("model name") or cpuinfo("Model"),
        "cores": len(usable_cores()),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": text_of(SYSTEM / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "frequency_hz": _frequency_hz(),
        "load_1min": os.getloadavg()[0],
    }


def sysctls() -> dict[str, str]:
    """Kernel settings that shape TCP and timing, those that this kernel has."""
    return system_files.sysctls(_SYSCTLS)


def _frequency_hz() -> float | None:
    frequency = psutil.cpu_freq()
    return frequency.current * 1e6 if frequency is not None and frequency.current else None
