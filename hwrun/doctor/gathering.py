"""Facts of this very host, read from the kernel, the firmware and a second of watching."""

from __future__ import annotations

import ctypes
import gzip
import os
import platform
import re
import resource
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from hwrun.doctor.facts import Busy, HostFacts, Interface
from hwrun.errors import HwrunError
from hwrun.local.namespaces import availability
from hwrun.machine.clock_state import Firmware, ask_vcgencmd, clock_state
from hwrun.machine.offloads import is_on
from hwrun.machine.own_command import own_command
from hwrun.machine.packages import package_versions
from hwrun.machine.sampling import nvml_gpus
from hwrun.machine.steady import cpu_model, steal_s, usable_cores
from hwrun.machine.system_files import SYSTEM, sysctls, text_of
from hwrun.shaping import kernel
from hwrun.shaping.keeper import keeper_of, left_behind

_SYSCTLS = (
    "kernel.sched_autogroup_enabled",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
# Kernel module and the option that builds it.
_MODULES = {"sch_netem": "CONFIG_NET_SCH_NETEM", "sch_htb": "CONFIG_NET_SCH_HTB", "cls_u32": "CONFIG_NET_CLS_U32"}
_CAP_NET_ADMIN, _CAP_SYS_NICE = 12, 23  # linux/capability.h
_STA_UNSYNC = 0x40  # adjtimex(2)
WATCH_S = 1.0
# Below this share of a core nobody is called busy.
_BUSY_SHARE = 0.02
_SLEEP_S, _SLEEPS = 1e-3, 200
T = TypeVar("T")


def gather(watch_s: float = WATCH_S, system: Path = SYSTEM, firmware: Firmware = ask_vcgencmd) -> HostFacts:
    """This host's facts; takes about `watch_s` and a fifth of a second.

    Parameters
    ----------
    system : root of the file system that /proc, /sys, /boot and /lib are read from.
    firmware : asks a Raspberry Pi's firmware.
    """
    cores = usable_cores()
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    clock = clock_state(cores[0], system, firmware)
    permitted = availability()
    lateness_s = _sleep_lateness_s()
    busy, steal_share = _watched(watch_s, system)
    load = text_of(system / "proc/loadavg")
    flags, count, temperature = clock["throttled_flags"], clock["throttle_count"], clock["temperature_c"]
    return HostFacts(
        hostname=socket.gethostname(),
        machine=platform.machine(),
        cpu_model=cpu_model(system),
        system=platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        cores=len(cores),
        governors=_governors(system, cores),
        throttled=None if clock["throttled"] is None else bool(clock["throttled"]),
        throttled_flags=None if flags is None else str(flags),
        throttle_count=count if isinstance(count, int) else None,
        temperature_c=float(temperature) if isinstance(temperature, int | float) else None,
        is_virtual=bool(re.search(r"^flags\s*:.*\bhypervisor\b", text_of(system / "proc/cpuinfo") or "", re.MULTILINE)),
        steal_share=steal_share,
        load_1min=float(load.split()[0]) if load else None,
        busy=busy,
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        swap_used_bytes=swap.used,
        clocksource=text_of(system / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        clock_synchronised=_clock_synchronised(),
        sleep_lateness_s=lateness_s,
        may_shape=_has_capability(system, _CAP_NET_ADMIN),
        may_realtime=_has_capability(system, _CAP_SYS_NICE) or resource.getrlimit(resource.RLIMIT_RTPRIO)[0] > 0,
        namespaces=permitted.how,
        namespaces_reason=permitted.reason,
        namespaces_remedy=permitted.remedy,
        modules=modules(system),
        interfaces=tuple(_interfaces(system)),
        sysctls=sysctls(_SYSCTLS, system),
        hwrun=own_command(),
        packages=package_versions(),
        gpus=nvml_gpus()(),
    )


def _governors(system: Path, cores: tuple[int, ...]) -> dict[str, int]:
    folder = system / "sys/devices/system/cpu"
    found = (text_of(folder / f"cpu{core}/cpufreq/scaling_governor") for core in cores)
    return dict(Counter(governor for governor in found if governor))


def _watched(watch_s: float, system: Path) -> tuple[tuple[Busy, ...], float | None]:
    """Which other processes used the processor meanwhile, and what share of a core a hypervisor took."""
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    before = _spent_s()
    stolen_s, start_s = steal_s(system), time.monotonic()
    time.sleep(watch_s)
    elapsed_s = time.monotonic() - start_s
    busy = []
    for (pid, name), spent_s in _spent_s().items():
        share = (spent_s - before.get((pid, name), spent_s)) / elapsed_s
        if pid not in own and share >= _BUSY_SHARE:
            busy.append(Busy(pid=pid, name=name, share=round(share, 3)))
    busy.sort(key=lambda one: -one.share)
    now_stolen_s = steal_s(system)
    stolen = None if stolen_s is None or now_stolen_s is None else (now_stolen_s - stolen_s) / elapsed_s
    return tuple(busy), stolen


def _spent_s() -> dict[tuple[int, str], float]:
    found = {}
    for process in psutil.process_iter(["pid", "name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None:
            found[process.info["pid"], process.info["name"] or "?"] = times.user + times.system
    return found


def _sleep_lateness_s() -> float:
    """99th percentile of how late a sleep of a millisecond ends."""
    late_s = []
    for _ in range(_SLEEPS):
        start_s = time.monotonic()
        time.sleep(_SLEEP_S)
        late_s.append(time.monotonic() - start_s - _SLEEP_S)
    return statistics.quantiles(late_s, n=100)[-1]


def _clock_synchronised() -> bool | None:
    """Whether the kernel takes the wall clock for synchronised (adjtimex(2)); None where it does not say."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = ctypes.create_string_buffer(512)  # struct timex, all zero: modes 0 only reads
        if libc.adjtimex(timex) < 0:
            return None
    except (OSError, AttributeError):
        return None
    # modes, then offset, freq, maxerror and esterror as longs, then status
    status_at = 5 * ctypes.sizeof(ctypes.c_long)
    return not ctypes.c_int.from_buffer(timex, status_at).value & _STA_UNSYNC


def _has_capability(system: Path, number: int) -> bool:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", text_of(system / "proc/self/status") or "", re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> number & 1)


def modules(system: Path = SYSTEM) -> dict[str, bool | None]:
    """Whether this kernel has each module that shaping needs: loaded, built in, or to be loaded; None if unknown."""
    folder = system / "lib/modules" / platform.release()
    listed = "\n".join(text_of(folder / name) or "" for name in ("modules.dep", "modules.builtin"))
    configured = _configuration(system)
    found: dict[str, bool | None] = {}
    for module, option in _MODULES.items():
        if (system / "sys/module" / module).exists() or re.search(rf"(?m)/{module}\.ko", listed):
            found[module] = True
        elif listed.strip():
            found[module] = False
        elif configured:
            # A module that is configured but not installed cannot be loaded; a built-in one is there.
            found[module] = f"{option}=y" in configured
        else:
            found[module] = None
    return found


def _configuration(system: Path) -> str:
    try:
        return gzip.decompress((system / "proc/config.gz").read_bytes()).decode(errors="replace")
    except (OSError, EOFError):
        return text_of(system / "boot" / f"config-{platform.release()}") or ""


def _interfaces(system: Path) -> list[Interface]:
    found = []
    for name, stats in psutil.net_if_stats().items():
        if not stats.isup or name == "lo":
            continue
        found.append(_interface(name, stats.speed * 1e6 or None, system))
    return found


def _interface(name: str, speed_bps: float | None, system: Path) -> Interface:
    root = _asked(lambda: kernel.read(name))
    is_set = root is not None and not root.is_default and not root.is_ours
    return Interface(
        name=name,
        speed_bps=speed_bps,
        is_wireless=(system / "sys/class/net" / name / "wireless").exists(),
        segments=bool(_asked(lambda: is_on(name, "tso") or is_on(name, "gso"))),
        root=str(root) if is_set else None,
        shaped_by=_asked(lambda: keeper_of(name)),
        left_behind=_asked(lambda: left_behind(name)),
    )


def _asked(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (HwrunError, OSError):
        return None
