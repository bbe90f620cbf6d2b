"""What a worker says of its own process and its host while a cell runs. Pure: values alone."""

from __future__ import annotations

import msgspec

from hwrun.records.links import Scalar


class GpuSample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An accelerator at one moment, as NVML says; None where it does not. `busy` is a share of the time.

    `index` and `uuid` tell those of one name apart, within a host as NVML counts now and for good; older records have
    neither. `held_back_by` is what lowers its clock, of heat and power; `held_back` is also true where somebody has set
    a clock.
    """

    name: str
    index: int | None = None
    uuid: str | None = None
    busy: float | None = None
    memory_bytes: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    frequency_hz: float | None = None
    held_back: bool | None = None
    held_back_by: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its name, and which one it is where that is known.

        >>> GpuSample(name="RTX 4090", index=1).title
        'GPU 1 (RTX 4090)'
        """
        return self.name if self.index is None else f"GPU {self.index} ({self.name})"


class WorkerSample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker's process and host at `time_s` of its monotonic clock.

    `cpu_cores` is how many cores' worth of time the process has used since the sample before, `cores_busy` the share
    of that time in which each core of the host was at work for whomever. `interfaces` has bytes received and sent since
    the interface came up, of those that carried any. `held_back` is what a Raspberry Pi's firmware said holds the
    processor back; it is asked about once a second, and empty on other hosts.
    """

    time_s: float
    cpu_cores: float
    cores_busy: tuple[float, ...]
    rss_bytes: int
    interfaces: dict[str, tuple[int, int]]
    gpus: tuple[GpuSample, ...] = ()
    held_back: tuple[str, ...] = ()


class WorkerWatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A worker during one cell: its samples, and the state of its processor's clock before and after.

    `before` and `after` have `frequency_hz`, `temperature_c`, `throttled`, `throttled_flags` and `throttle_count`;
    `held_back` is what they and the samples say held the processor back, before, after or in between, and what lowered
    the clock of an accelerator that a stage computed on.
    """

    host: str
    before: dict[str, Scalar]
    after: dict[str, Scalar]
    held_back: tuple[str, ...] = ()
    samples: tuple[WorkerSample, ...] = ()
