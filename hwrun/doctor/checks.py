"""What in a host's facts will spoil a measurement, and the exact commands that mend it. Pure.

A finding either *spoils* a measurement of the purpose at hand (the local testbed, or real hosts) or is a *note*. Only
what was found is judged: where a host does not tell, nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from hwrun.doctor.facts import HostFacts
from hwrun.machine.clock_state import CAUSES, SINCE_BOOT
from paretosim.units import format_bytes, format_duration

Purpose = Literal["local", "testbed"]
# Shares of a core: a second process at a twentieth already shows in medians of milliseconds.
_LOAD_SHARE, _STEAL_SHARE = 0.05, 0.01
_LEAST_MEMORY_BYTES = 10**9  # torch, and vgg16's halves at batch 8
_SWAP_BYTES = 64 * 2**20
# Timer lateness that a paced batch of a few milliseconds would show (NETWORK: 99 us to 4.5 ms at the 99th percentile).
_LATENESS_S = 2e-3
# What one connection needs for 100 Mbit/s over 200 ms, with what the kernel keeps for itself.
_LEAST_BUFFER_BYTES = 4 * 10**6
_STABLE_CLOCKS = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page", "stc", "timebase")
_HOT_C = 80.0
_SYSCTL_FILE = "/etc/sysctl.d/90-hwrun.conf"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something about a host: which check, how bad, what was found, why it matters and how to mend it."""

    check: str
    spoils: bool
    what: str
    why: str
    fix: str


Check = Callable[[HostFacts, Purpose], Iterator[Finding]]


def findings(facts: HostFacts, purpose: Purpose) -> tuple[Finding, ...]:
    """Everything that was found, what spoils first."""
    found = [finding for check in _CHECKS for finding in check(facts, purpose)]
    return tuple(sorted(found, key=lambda finding: not finding.spoils))


def _governor(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    others = {name: count for name, count in facts.governors.items() if name != "performance"}
    if others:
        listed = ", ".join(f"{name} on {count} of {facts.cores} cores" for name, count in others.items())
        yield Finding(
            check="governor",
            spoils=True,
            what=f"frequency governor {listed}, expected performance",
            why="the clock follows the load, so a stage is slower after a pause than in a stream of batches",
            fix="echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
        )


def _throttling(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    flags = int(facts.throttled_flags or "0", 16)
    now = [cause for bit, cause in enumerate(CAUSES) if flags >> bit & 1]
    past = [cause for bit, cause in enumerate(CAUSES) if flags >> (bit + SINCE_BOOT) & 1]
    fix = "a supply of 5.1 V and 3 A on a short cable, a fan or heat sink; then reboot, and see: vcgencmd get_throttled"
    why = "the firmware lowers the clock below what the kernel asked for"
    if facts.throttled or now:
        yield Finding(
            check="throttling", spoils=True, what=f"held back now: {', '.join(now) or 'throttled'}", why=why, fix=fix
        )
    elif past:
        yield Finding(
            check="throttling", spoils=True, what=f"held back since boot: {', '.join(past)}", why=why, fix=fix
        )
    if facts.throttle_count:
        yield Finding(
            check="throttling",
            spoils=False,
            what=f"the kernel saw cores throttled {facts.throttle_count} times since boot",
            why="a core that is too hot is clocked down",
            fix="cool it, or let it rest; watch: grep . /sys/devices/system/cpu/cpu0/thermal_throttle/*",
        )
    if facts.temperature_c is not None and facts.temperature_c >= _HOT_C:
        yield Finding(
            check="temperature",
            spoils=True,
            what=f"{facts.temperature_c:.0f} °C, expected below {_HOT_C:.0f}",
            why="it is about to be throttled (a Raspberry Pi from 80 °C on)",
            fix="a fan or heat sink, or a cooler place; watch: vcgencmd measure_temp, or sensors",
        )


def _gpus(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    for gpu in facts.gpus:
        known = (
            ("{:.0f} MHz", gpu.frequency_hz and gpu.frequency_hz / 1e6),
            ("{:.0f} °C", gpu.temperature_c),
            ("{:.0f} W", gpu.power_w),
        )
        now = ", ".join(shown.format(value) for shown, value in known if value is not None)
        if gpu.held_back_by:
            yield Finding(
                check="gpu",
                spoils=True,
                what=f"{gpu.title} is held back by {', '.join(gpu.held_back_by)} ({now})",
                why="its clock is lowered, and what its stages take changes from one batch to the next",
                fix="cool it, let it rest, or allow it more power (sudo nvidia-smi -pl WATTS); watch: nvidia-smi -q -d"
                " PERFORMANCE,TEMPERATURE,POWER",
            )
        elif gpu.held_back:
            yield Finding(
                check="gpu",
                spoils=False,
                what=f"{gpu.title} runs at a clock that somebody set ({now})",
                why="it is slower than it could be, if steadily so",
                fix="sudo nvidia-smi --reset-gpu-clocks, sudo nvidia-smi --reset-applications-clocks",
            )


def _load(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    others = [busy for busy in facts.busy if busy.share >= _LOAD_SHARE]
    if others:
        listed = ", ".join(f"{busy.name} ({busy.pid}) {busy.share:.0%}" for busy in others[:5])
        yield Finding(
            check="load",
            spoils=True,
            what=f"other processes use {sum(busy.share for busy in others):.0%} of a core: {listed}",
            why="they take the cores, caches and memory bandwidth that stages are timed on",
            fix=f"ps -o pid,user,args -p {','.join(str(busy.pid) for busy in others[:5])}, and end them or wait",
        )


def _autogroup(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    # sched(7), "The autogroup feature": nice values count among the threads of one group only, and the idle class too.
    if facts.sysctls.get("kernel.sched_autogroup_enabled") == "1":
        setting = "kernel.sched_autogroup_enabled=0"
        yield Finding(
            check="autogroup",
            spoils=False,
            what="each session has a share of the cores of its own (kernel.sched_autogroup_enabled is 1)",
            why="work of other sessions takes cores from stages however low its priority, in the idle class too",
            fix=f"end other work; or sudo sysctl -w {setting}; to keep it: echo {setting} | sudo tee -a {_SYSCTL_FILE}",
        )


def _steal(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    if facts.steal_share is not None and facts.steal_share >= _STEAL_SHARE:
        yield Finding(
            check="steal",
            spoils=True,
            what=f"a hypervisor gave {facts.steal_share:.1%} of a core to others",
            why="a stage is stopped at moments that nothing here can see",
            fix="measure on a machine of your own, or on a virtual one with cores of its own (dedicated, pinned)",
        )
    elif facts.is_virtual:
        yield Finding(
            check="steal",
            spoils=False,
            what="a virtual machine",
            why="its cores and timers may be shared with others at any time",
            fix="repeat measurements, and see the spread between repeats; or measure on a machine of your own",
        )


def _memory(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    if facts.memory_available_bytes < _LEAST_MEMORY_BYTES:
        yield Finding(
            check="memory",
            spoils=True,
            what=f"{format_bytes(facts.memory_available_bytes)} of {format_bytes(facts.memory_bytes)} available,"
            f" expected {format_bytes(_LEAST_MEMORY_BYTES)} or more",
            why="a stage and its activations may not fit, or push others out",
            fix="end what uses it (ps aux --sort -rss | head), or boot without a desktop: sudo systemctl isolate"
            " multi-user.target",
        )
    if facts.swap_used_bytes > _SWAP_BYTES:
        yield Finding(
            check="swap",
            spoils=True,
            what=f"{format_bytes(facts.swap_used_bytes)} are swapped out",
            why="a page that comes back from a disk or card takes milliseconds in the middle of a stage",
            fix="sudo swapoff -a && sudo swapon -a (free memory first), or sudo swapoff -a while measuring",
        )


def _clock(facts: HostFacts, purpose: Purpose) -> Iterator[Finding]:
    if facts.clocksource is not None and facts.clocksource not in _STABLE_CLOCKS:
        yield Finding(
            check="clocksource",
            spoils=True,
            what=f"clock source {facts.clocksource}, expected one of {', '.join(_STABLE_CLOCKS[:3])}",
            why="reading the clock costs microseconds, and every phase is timed by it",
            fix="cat /sys/devices/system/clocksource/clocksource0/available_clocksource; if it is listed: echo tsc"
            " | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource",
        )
    if facts.clock_synchronised is False:
        yield Finding(
            check="ntp",
            spoils=False,
            what="the wall clock is not synchronised",
            why="records say when they were made; durations are of the monotonic clock and do not mind",
            fix="sudo timedatectl set-ntp true",
        )
    if facts.sleep_lateness_s is not None and facts.sleep_lateness_s > _LATENESS_S:
        yield Finding(
            check="timers",
            spoils=purpose == "local",
            what=f"one sleep in a hundred ends {format_duration(facts.sleep_lateness_s, digits=2)} late or later",
            why="emulated stages and paced batches end when a timer wakes them, and the relay's frames leave so",
            fix="end other load; "
            + ("" if facts.may_realtime else "give real-time priority (see realtime); ")
            + "on a laptop, disable deep idle states: sudo cpupower idle-set -D 100",
        )
    if not facts.may_realtime:
        yield Finding(
            check="realtime",
            spoils=False,
            what="real-time priority is not permitted",
            why="the relay's frames are released up to milliseconds late while all cores are busy",
            fix='echo "$USER - rtprio 1" | sudo tee /etc/security/limits.d/90-hwrun.conf, and log in again',
        )


def _tcp(facts: HostFacts, purpose: Purpose) -> Iterator[Finding]:
    for name, wanted, why in (
        (
            "tcp_congestion_control",
            "cubic",
            "others start, and start again after idle, in another way than predictions assume (BBR most of all)",
        ),
        ("tcp_no_metrics_save", "1", "a new connection inherits the window that an earlier one had to the same host"),
        ("tcp_slow_start_after_idle", "0", "a window shrinks in pauses, so a paced batch is sent like a cold one"),
    ):
        found = facts.sysctls.get(f"net.ipv4.{name}")
        if found is not None and found != wanted:
            setting = f"net.ipv4.{name}={wanted}"
            yield Finding(
                check=name,
                spoils=purpose == "testbed",
                what=f"net.ipv4.{name} is {found}, expected {wanted}",
                why=why if purpose == "testbed" else f"{why}; the local testbed sets its own hosts so",
                fix=f"sudo sysctl -w {setting}; to keep it: echo {setting} | sudo tee -a {_SYSCTL_FILE}",
            )
    for name in ("tcp_rmem", "tcp_wmem"):
        values = facts.sysctls.get(f"net.ipv4.{name}", "").split()
        if len(values) == 3 and int(values[2]) < _LEAST_BUFFER_BYTES:
            setting = f'"net.ipv4.{name}={values[0]} {values[1]} {6 * 2**20}"'
            yield Finding(
                check=name,
                spoils=True,
                what=f"net.ipv4.{name} allows {format_bytes(int(values[2]))},"
                f" expected {format_bytes(_LEAST_BUFFER_BYTES)} or more",
                why="a full window, and not the link, would limit fast links with a delay",
                fix=f"sudo sysctl -w {setting}; to keep it: echo {setting} | sudo tee -a {_SYSCTL_FILE}",
            )


def _shaping(facts: HostFacts, purpose: Purpose) -> Iterator[Finding]:
    missing = [module for module, there in facts.modules.items() if there is False]
    if missing:
        yield Finding(
            check="netem",
            spoils=False,  # unshaped measurements, and local ones, need none
            what=f"this kernel ({facts.kernel}) has no {', '.join(missing)}",
            why="hwrun shape and sweep --testbed --link cannot shape this host's interface; the local testbed can",
            fix=f"sudo apt install linux-modules-extra-{facts.kernel} (Ubuntu), or the distribution's own kernel; with"
            " htb alone: hwrun shape --limiter htb, which sets a rate and no delay",
        )
    elif not facts.may_shape:
        yield Finding(
            check="net_admin",
            spoils=False,
            what="this process may not shape interfaces (no CAP_NET_ADMIN)",
            why="hwrun shape, and a worker that is asked for a shaped link, are refused",
            fix=f"sudo {facts.hwrun} shape …; for a worker: AmbientCapabilities=CAP_NET_ADMIN in its systemd unit",
        )
    if facts.namespaces == "none":
        yield Finding(
            check="namespaces",
            spoils=purpose == "local",
            what=facts.namespaces_reason or "network namespaces are not permitted",
            why="the local testbed has no shaped links then, and unshaped ones cross plain loopback",
            fix=facts.namespaces_remedy or "run as root",
        )
    for interface in facts.interfaces:
        if interface.root is not None:
            yield Finding(
                check="qdisc",
                spoils=purpose == "testbed",
                what=f"{interface.name} has {interface.root}, which somebody set",
                why="it queues, delays or paces what is measured, and hwrun shape leaves it alone",
                fix=f"sudo tc qdisc del dev {interface.name} root",
            )
        if interface.shaped_by is not None:
            yield Finding(
                check="shaped",
                spoils=purpose == "testbed",
                what=f"{interface.name} is being shaped by process {interface.shaped_by}",
                why="what is measured now goes over that link",
                fix=f"sudo {facts.hwrun} shape --clear --interface {interface.name}",
            )
        if interface.left_behind is not None:
            yield Finding(
                check="shaped",
                spoils=purpose == "testbed",
                what=f"{interface.name} has {interface.left_behind}, which hwrun shape or a worker left behind",
                why="whoever kept it was killed, so it stays, and what is measured now goes over that link",
                fix=f"sudo {facts.hwrun} shape --clear --interface {interface.name}",
            )
        if interface.segments:
            yield Finding(
                check="offloads",
                spoils=False,
                what=f"{interface.name} hands on segments of up to 64 kB (tso, gso)",
                why="netem delays and drops one as if it were a packet; hwrun shape keeps them at the MTU meanwhile, tc"
                " typed by hand does not",
                fix=f"sudo ethtool -K {interface.name} tso off gso off && sudo ip link set dev {interface.name}"
                " gso_max_segs 1 (only beside tc of your own)",
            )
        if interface.is_wireless:
            yield Finding(
                check="wireless",
                spoils=purpose == "testbed",
                what=f"{interface.name} is wireless",
                why="its rate and delay change from one second to the next, and power saving holds packets back",
                fix=f"use a cable; if the radio is what you measure: sudo iw dev {interface.name} set power_save off",
            )


def _packages(facts: HostFacts, _: Purpose) -> Iterator[Finding]:
    missing = [name for name, found in facts.packages.items() if found is None]
    if missing:
        yield Finding(
            check="packages",
            spoils=True,
            what=f"missing: {', '.join(missing)}",
            why="hwrun cannot run or shape without",
            fix="pip install 'paretosim[hw]'",
        )


_CHECKS: tuple[Check, ...] = (
    _governor, _throttling, _gpus, _load, _autogroup, _steal, _memory, _clock, _tcp, _shaping, _packages,
)  # fmt: skip
