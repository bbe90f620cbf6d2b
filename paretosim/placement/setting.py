"""Everything that a front over several devices depends on."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from paretosim.errors import BadInputError
from paretosim.memory import all_stages_memory_bytes
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.limits import Forbid, Pin
from paretosim.setting import AnySetting

Order = Literal["given", "any"]
Ends = Literal["fixed", "free"]


class PlacementSetting(AnySetting, frozen=True, kw_only=True, dict=True):
    """Everything that a front over several devices depends on.

    `order`: chains are subsequences of the devices as `given`, or arrangements of subsets (`any`). `ends`: with
    `fixed`, inputs are at the first device and results are wanted at the last (or come back to the first, with the sink
    there), so that both take part even where they run no block; with `free`, at whatever devices a chain begins and
    ends with. `max_devices` counts all that take part. `within_memory` False lifts the memory limits.
    """

    links: HopLinks
    order: Order = "given"
    ends: Ends = "fixed"
    max_devices: int | None = None
    pins: tuple[Pin, ...] = ()
    forbids: tuple[Forbid, ...] = ()
    within_memory: bool = True

    def __post_init__(self) -> None:
        if not self.devices or len(self.devices) != len(self.timings):
            raise BadInputError(
                f"devices: got {len(self.devices)} and {len(self.timings)} timings, expected one timing for each of"
                " one device or more"
            )
        super().__post_init__()
        least = 2 if self.ends == "fixed" and self.sink == "last" and len(self.devices) > 1 else 1
        if self.max_devices is not None and self.max_devices < least:
            why = ", since inputs are at the first device and results are wanted at the last" if least == 2 else ""
            raise BadInputError(f"max_devices: got {self.max_devices}, expected {least} or more{why}")

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
