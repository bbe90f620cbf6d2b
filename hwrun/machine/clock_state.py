"""How fast the processor runs right now and what holds it back: frequency, temperature, throttling.

A Raspberry Pi's firmware lowers the clock on its own when the supply sags or the chip is hot, and tells `vcgencmd`;
the kernel's cpufreq still shows the frequency that it asked for. Elsewhere sysfs has all there is: on x86 the kernel
counts how often each core was throttled.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from hwrun.machine.system_files import SYSTEM, scaled, text_of
from hwrun.records.links import Scalar

Firmware = Callable[[str], str | None]
# Raspberry Pi documentation, vcgencmd get_throttled: bits 0 to 3 are now, 16 to 19 the same since boot.
CAUSES = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
SINCE_BOOT = 16
# An answer may take a process of some milliseconds; what lowers a clock lasts, and so is seen all the same.
_ASKED_EVERY_S = 1.0


def ask_vcgencmd(question: str) -> str | None:
    """What `vcgencmd` answers to, say, `measure_clock arm`; None where there is no such command, or it fails."""
    command = shutil.which("vcgencmd")
    if command is None:
        return None
    try:
        done = subprocess.run([command, *question.split()], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def clock_state(core: int, system: Path = SYSTEM, firmware: Firmware = ask_vcgencmd) -> dict[str, Scalar]:
    """Frequency, temperature and throttling at this moment, flat; None where nothing tells.

    Parameters
    ----------
    core : whose frequency it is where cores have their own.
    system : root of the file system that /proc and /sys are read from.
    firmware : asks a Raspberry Pi's firmware.

    Returns
    -------
    `frequency_hz`, `temperature_c`; `throttled` (held back now), `throttled_flags` (of a Raspberry Pi, hexadecimal,
    past ones included) and `throttle_count` (times that the kernel saw cores throttled since boot, added up).
    """
    flags = _flags(system, firmware)
    return {
        "frequency_hz": _answered(firmware("measure_clock arm"), r"=(\d+)$")
        or scaled(system / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", 1000)
        or _nominal_frequency_hz(system),
        "temperature_c": _answered(firmware("measure_temp"), r"=([\d.]+)")
        or scaled(system / "sys/class/thermal/thermal_zone0/temp", 0.001),
        "throttled": None if flags is None else flags & 0xF != 0,
        "throttled_flags": None if flags is None else hex(flags),
        "throttle_count": _throttle_count(system),
    }


def held_back(before: Mapping[str, Scalar], after: Mapping[str, Scalar], during: Collection[str] = ()) -> list[str]:
    """What held the processor back before, after or between two states; empty where nothing did, or nothing tells.

    Parameters
    ----------
    during : causes that a FirmwareWatch saw in between.

    >>> held_back({"throttled_flags": "0x0"}, {"throttled_flags": "0x40000"})
    ['throttled, in between']
    >>> held_back({"throttled_flags": "0x40000"}, {"throttled_flags": "0x40000"}, {"throttled"})
    ['throttled, in between']
    """
    flags = [int(str(state["throttled_flags"]), 16) if state.get("throttled_flags") else 0 for state in (before, after)]
    found = []
    for bit, cause in enumerate(CAUSES):
        when = [word for word, value in zip(("before", "after"), flags, strict=True) if value >> bit & 1]
        newly = (flags[1] & ~flags[0]) >> (bit + SINCE_BOOT) & 1
        if when or newly or cause in during:
            found.append(f"{cause}, {' and '.join(when) or 'in between'}")
    counts = before.get("throttle_count"), after.get("throttle_count")
    if isinstance(counts[0], int) and isinstance(counts[1], int) and counts[1] > counts[0]:
        found.append(f"the kernel saw cores throttled {counts[1] - counts[0]} times in between")
    return found


class FirmwareWatch:
    """Asks a Raspberry Pi's firmware what holds the processor back, while something runs.

    Of what has happened since boot the firmware does not say that it happened again, so a state before and one after
    do not tell; what is at work at the moment does. (The kernel counts, on x86, and there those two are enough.)
    """

    def __init__(
        self,
        system: Path = SYSTEM,
        firmware: Firmware = ask_vcgencmd,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._system = system
        self._firmware = firmware
        self._clock_s = clock_s
        self._next_s = float("-inf")

    def look(self) -> tuple[str, ...]:
        """Causes at this moment; empty where there is none, nothing tells, or it was asked less than a second ago."""
        now_s = self._clock_s()
        if now_s < self._next_s:
            return ()
        self._next_s = now_s + _ASKED_EVERY_S
        flags = _flags(self._system, self._firmware) or 0
        return tuple(cause for bit, cause in enumerate(CAUSES) if flags >> bit & 1)


def _flags(system: Path, firmware: Firmware) -> int | None:
    answer = text_of(system / "sys/devices/platform/soc/soc:firmware/get_throttled") or firmware("get_throttled")
    try:
        return None if answer is None else int(answer.rpartition("=")[2], 16)
    except ValueError:
        return None


def _throttle_count(system: Path) -> int | None:
    folders = (system / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")
    counts = [scaled(folder / "core_throttle_count", 1) for folder in folders]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def _answered(answer: str | None, pattern: str) -> float | None:
    """The number that an answer such as `temp=48.3'C` or `frequency(48)=1500345728` holds."""
    found = re.search(pattern, answer or "")
    return float(found[1]) if found else None


def _nominal_frequency_hz(system: Path) -> float | None:
    """What a virtual machine without cpufreq is told."""
    found = re.search(r"^cpu MHz\s*:\s*([\d.]+)", text_of(system / "proc/cpuinfo") or "", re.MULTILINE)
    return float(found[1]) * 1e6 if found else None
