"""What files of /proc and /sys say; where the system does not have one, that is None and no error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SYSTEM = Path("/")


def text_of(path: Path) -> str | None:
    """What a file of /proc or /sys says, None where it is not there."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def scaled(path: Path, factor: float) -> float | None:
    """The number in a file of /sys, times `factor`; None where there is none."""
    text = text_of(path)
    try:
        return None if text is None else float(text) * factor
    except ValueError:
        return None


def cpuinfo(wanted: str, system: Path = SYSTEM) -> str | None:
    """The first field of that name in /proc/cpuinfo."""
    for line in (text_of(system / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == wanted:
            return value.strip()
    return None


def sysctls(names: Iterable[str], system: Path = SYSTEM) -> dict[str, str]:
    """Those of the kernel's settings that it has, white space made single; the network's are those of the thread."""
    found = {name: text_of(sysctl_path(name, system)) for name in names}
    return {name: " ".join(value.split()) for name, value in found.items() if value is not None}


def sysctl_path(name: str, system: Path = SYSTEM) -> Path:
    """Where a setting such as `net.ipv4.tcp_sack` is."""
    return system / "proc/sys" / name.replace(".", "/")
