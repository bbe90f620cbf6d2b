"""What a host is, as far as measurements on it depend on it. Plain values; None where the host does not tell."""

from __future__ import annotations

import msgspec

from hwrun.records import GpuSample


class Interface(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network interface that is up. `root` is its root qdisc where somebody set one, in words."""

    name: str
    speed_bps: float | None = None
    is_wireless: bool = False
    segments: bool = False  # tso or gso is on
    root: str | None = None
    shaped_by: int | None = None  # process id of the keeper of a setting of ours
    left_behind: str | None = None  # a setting of ours that nobody keeps, in words


class Busy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process that used the processor while facts were gathered: its share of one core."""

    pid: int
    name: str
    share: float


class HostFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One host at one moment.

    Shares are of one core, or of the time, between 0 and 1 (`busy` may be above). `governors` counts cores by their
    frequency governor. `modules` says of each kernel module that shaping needs whether this kernel has it. `hwrun` is
    the command as the host's shell finds it from anywhere; `packages` has the version of each Python package of it,
    None where it is missing. `sysctls` are read as they stand.
    """

    hostname: str
    machine: str
    cpu_model: str | None = None
    system: str = "Linux"
    kernel: str
    python: str
    cores: int
    governors: dict[str, int] = {}
    throttled: bool | None = None
    throttled_flags: str | None = None
    throttle_count: int | None = None
    temperature_c: float | None = None
    is_virtual: bool = False
    steal_share: float | None = None
    load_1min: float | None = None
    busy: tuple[Busy, ...] = ()
    memory_bytes: int
    memory_available_bytes: int
    swap_used_bytes: int = 0
    clocksource: str | None = None
    clock_synchronised: bool | None = None
    sleep_lateness_s: float | None = None
    may_shape: bool = False  # CAP_NET_ADMIN
    may_realtime: bool = False  # SCHED_FIFO
    namespaces: str = "none"  # root, userns, none
    namespaces_reason: str | None = None
    namespaces_remedy: str | None = None
    modules: dict[str, bool | None] = {}
    interfaces: tuple[Interface, ...] = ()
    sysctls: dict[str, str] = {}
    hwrun: str = "hwrun"
    packages: dict[str, str | None] = {}
    gpus: tuple[GpuSample, ...] = ()
