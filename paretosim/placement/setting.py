"""Everything that a front over several devices depends on."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from paretosim.block import Model
from paretosim.calibration import Backend, Calibration, Term
from paretosim.chain import Sink, Source
from paretosim.device import Device
from paretosim.errors import BadInputError
from paretosim.in_effect import check_calibration
from paretosim.memory import all_stages_memory_bytes
from paretosim.mode import Mode
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.limits import Forbid, Pin
from paretosim.setting import MAX_BATCH
from paretosim.timing import Timing
from paretosim.transfer_time import TcpState

Order = Literal["given", "any"]
Ends = Literal["fixed", "free"]


class PlacementSetting(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Everything that a front over several devices depends on.

    `order`: chains are subsequences of the devices as `given`, or arrangements of subsets (`any`). `ends`: with
    `fixed`, inputs are at the first device and results are wanted at the last (or come back to the first, with the sink
    there), so that both take part even where they run no block; with `free`, at whatever devices a chain begins and
    ends with. `max_devices` counts all that take part. `within_memory` False lifts the memory limits. `calibration` and
    `without` are as in a setting of two devices.
    """

    model: Model
    devices: tuple[Device, ...]
    timings: tuple[Timing, ...]
    links: HopLinks
    batch: int = 8
    mode: Mode = Mode(name="paced")
    order: Order = "given"
    ends: Ends = "fixed"
    max_devices: int | None = None
    pins: tuple[Pin, ...] = ()
    forbids: tuple[Forbid, ...] = ()
    source: Source = "stage1"
    sink: Sink = "last"
    tcp_state: TcpState = "warm"
    control_delay_s: float = 0.0
    max_latency_s: float | None = None
    min_throughput_per_s: float | None = None
    frame_rate_per_s: float | None = None
    within_memory: bool = True
    backend: Backend = "tcp"
    calibration: Calibration | None = None
    without: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        if not self.devices or len(self.devices) != len(self.timings):
            raise BadInputError(
                f"devices: got {len(self.devices)} and {len(self.timings)} timings, expected one timing for each of"
                " one device or more"
            )
        for device, timing in zip(self.devices, self.timings, strict=True):
            timing.check_belongs(self.model, device.name)
        if not 1 <= self.batch <= MAX_BATCH:
            raise BadInputError(f"batch: got {self.batch}, expected 1 to {MAX_BATCH} images")
        if not 0 <= self.control_delay_s < math.inf:
            raise BadInputError(f"control_delay_s: got {self.control_delay_s}, expected a finite time of 0 or more")
        for field in ("max_latency_s", "min_throughput_per_s", "frame_rate_per_s"):
            value = getattr(self, field)
            if value is not None and not 0 < value < math.inf:
                raise BadInputError(f"{field}: got {value}, expected a finite number above zero, or none")
        least = 2 if self.ends == "fixed" and self.sink == "last" and len(self.devices) > 1 else 1
        if self.max_devices is not None and self.max_devices < least:
            why = ", since inputs are at the first device and results are wanted at the last" if least == 2 else ""
            raise BadInputError(f"max_devices: got {self.max_devices}, expected {least} or more{why}")
        check_calibration(self)

    @property
    def filling_s(self) -> float:
        """How long the first image of a batch waits for the last one from a camera; 0 without one."""
        return 0.0 if self.frame_rate_per_s is None else (self.batch - 1) / self.frame_rate_per_s

    @cached_property
    def block_s(self) -> tuple[tuple[float, ...], ...]:
        """Seconds of each block of a batch on each device."""
        return tuple(timing.at_batch(self.batch)[0] for timing in self.timings)

    @cached_property
    def cut_bytes(self) -> NDArray[np.int64]:
        """(N + 1,) bytes of a batch across each cut."""
        return np.array(self.model.cut_bytes(), dtype=np.int64) * self.batch

    @cached_property
    def memory_bytes(self) -> NDArray[np.int64]:
        """(N + 1, N + 1) bytes that a stage of blocks [i, j) needs."""
        return all_stages_memory_bytes(self.model, self.batch)

    def overhead_bound(self, device: int) -> bool:
        """Whether a device's timing says how long launching takes, and not how long the blocks take."""
        return self.timings[device].conditions.get("overhead_bound") is True
