"""Energy of a batch: what each device draws while it computes, and while it waits for the next batch.

Over one interval between batches a device is busy for its stage's time and idle for the rest, so it draws
idle power all along and the difference to busy power on top while it computes (docs/model.md, "Energy").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from paretosim.errors import BadInputError

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import ArrayLike, NDArray

    from paretosim.device import Device


def energy_j(devices: Sequence[Device], busy_s: ArrayLike, interval_s: ArrayLike) -> NDArray[np.float64]:
    """Joules of each batch, over all devices.

    Parameters
    ----------
    busy_s : (…, devices) seconds of computing a batch; no longer than the interval.
    interval_s : (…) seconds from one batch to the next.

    Returns
    -------
    Array of shape (…).

    Raises
    ------
    BadInputError : a device's idle or busy power is not known; names it.
    """
    power_w = np.array([_power_w(device) for device in devices])
    idle_w, busy_w = power_w[:, 0], power_w[:, 1]
    busy = np.asarray(busy_s, dtype=np.float64)
    return np.asarray(idle_w.sum() * np.asarray(interval_s, dtype=np.float64) + busy @ (busy_w - idle_w))


def _power_w(device: Device) -> tuple[float, float]:
    unknown = [name for name in ("idle_power_w", "busy_power_w") if getattr(device, name) is None]
    if device.idle_power_w is None or device.busy_power_w is None:
        raise BadInputError(
            f"objectives: energy needs {' and '.join(unknown)} of {device.name}, not known; expected figures and their"
            f" source in the profile devices/{device.name}.json, or objectives without energy"
        )
    return device.idle_power_w, device.busy_power_w
