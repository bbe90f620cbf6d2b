"""Everything that a prediction over two devices depends on, as one value, and what any number of them need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.block import Model
from paretosim.calibration import Backend, Calibration, Term
from paretosim.chain import Sink, Source, Splits
from paretosim.device import Device
from paretosim.errors import BadInputError
from paretosim.in_effect import check_calibration
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.pipeline import significant
from paretosim.timing import Timing
from paretosim.transfer_time import TcpState

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

# Far above any real batch, and low enough that the bytes of one stay exact in 64 bits.
MAX_BATCH = 2**20


class AnySetting(msgspec.Struct, frozen=True, kw_only=True):
    """What predictions over any number of devices depend on.

    `control_delay_s` is how long a dispatch takes to reach stage 1. `frame_rate_per_s` is that of a camera feeding the
    pipeline: a batch has to fill first. `without` names terms that are switched off, of the calibration or of links.
    """

    model: Model
    devices: tuple[Device, ...]
    timings: tuple[Timing, ...]
    batch: int = 8
    mode: Mode = Mode(name="paced")
    source: Source = "stage1"
    sink: Sink = "last"
    tcp_state: TcpState = "warm"
    control_delay_s: float = 0.0
    max_latency_s: float | None = None
    min_throughput_per_s: float | None = None
    frame_rate_per_s: float | None = None
    backend: Backend = "tcp"
    calibration: Calibration | None = None
    without: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        for device, timing in zip(self.devices, self.timings, strict=True):
            timing.check_belongs(self.model, device.name)
        if not 1 <= self.batch <= MAX_BATCH:
            raise BadInputError(f"batch: got {self.batch}, expected 1 to {MAX_BATCH} images")
        if not 0 <= self.control_delay_s < float("inf"):
            raise BadInputError(f"control_delay_s: got {self.control_delay_s}, expected a finite time of 0 or more")
        for field in ("max_latency_s", "min_throughput_per_s", "frame_rate_per_s"):
            value = getattr(self, field)
            if value is not None and not 0 < value < float("inf"):
                raise BadInputError(f"{field}: got {value}, expected a finite number above zero, or none")
        check_calibration(self)

    @property
    def filling_s(self) -> float:
        """How long the first image of a batch waits for the last one from a camera; 0 without one."""
        return 0.0 if self.frame_rate_per_s is None else (self.batch - 1) / self.frame_rate_per_s

    def image_latency_s(self, latency_s: float) -> float:
        """From when the first image of a batch is there until its result is, for a batch of that latency."""
        return float(significant(np.array([self.filling_s + latency_s]))[0])

    def is_met(self, latency_s: NDArray[np.float64], throughput_per_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether plans of those latencies and throughputs are as fast as is asked, (plans,) each."""
        floor = max(self.min_throughput_per_s or 0.0, self.frame_rate_per_s or 0.0)
        ceiling = float("inf") if self.max_latency_s is None else self.max_latency_s
        return np.asarray((latency_s + self.filling_s <= ceiling) & (throughput_per_s >= floor))


class Setting(AnySetting, frozen=True, kw_only=True):
    """Everything that a prediction over two devices depends on.

    `speed` divides all stage times, as `hwrun --speed` does.
    """

    devices: tuple[Device, Device]
    timings: tuple[Timing, Timing]
    link: Link
    operation: Operation = Operation()
    splits: Splits = "all"
    speed: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.speed < float("inf"):
            raise BadInputError(f"speed: got {self.speed}, expected a finite number above zero")
        self.link.check_predictable()
        self.operation.check(self.mode)

    @property
    def has_closed_form(self) -> bool:
        """Whether objectives are those of L₀ and t* alone (docs/model.md, "Pipeline")."""
        return self.operation.is_plain and self.mode.name != "open"
