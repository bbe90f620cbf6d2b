"""Energy of a batch: what each device draws while it computes, while it waits, and for what it sends and receives.

Over one interval between batches a device is busy for its stage's time and idle for the rest, so it draws
idle power all along and the difference to busy power on top while it computes. What its radio or NIC adds comes on top
of both, where the device's profile says it (docs/model.md, "Energy").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from paretosim.device import NetworkPower
from paretosim.errors import BadInputError
from paretosim.transfer_time import serialisation_s, wire_bytes
from paretosim.units import format_number

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import ArrayLike, NDArray

    from paretosim.device import Device
    from paretosim.link import Link


def energy_j(devices: Sequence[Device], busy_s: ArrayLike, interval_s: ArrayLike) -> NDArray[np.float64]:
    """Joules of each batch, over all devices, without what networks add.

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


def network_j(payload_bytes: ArrayLike, link: Link, sender: Device, receiver: Device) -> NDArray[np.float64]:
    """Joules that messages of `payload_bytes` (any shape) add over one hop at both ends; none where it is not known."""
    bytes_sent, passing_s = wire_bytes(payload_bytes, link), serialisation_s(payload_bytes, link)
    added = np.zeros(bytes_sent.shape)
    for device, field in ((sender, "sent_j_per_byte"), (receiver, "received_j_per_byte")):
        power = device.network_power
        if isinstance(power, NetworkPower):
            added = added + getattr(power, field) * bytes_sent + power.transfer_w * passing_s
    return added


def unknown_networks(devices: Sequence[Device]) -> list[str]:
    """The devices, each name once, of which it is not known what their radio or NIC adds."""
    return list(dict.fromkeys(d.name for d in devices if not isinstance(d.network_power, NetworkPower)))


def network_share(devices: Sequence[Device], energy_j: float | None, added_j: float | None) -> str:
    """What is known of a radio's or NIC's share in an energy, as the end of a sentence.

    Parameters
    ----------
    energy_j, added_j : of the choice of least energy, and what networks add of it; None where there is none.
    """
    unknown = unknown_networks(devices)
    if len(unknown) == len({device.name for device in devices}):
        return "what radio or NIC add is not known and not in it"
    share = ""
    if energy_j and added_j is not None:
        share = f": {format_number(added_j, 3)} J an image ({added_j / energy_j:.1%}) of the least"
    missing = f"; that of {' and '.join(unknown)} is not known and not in it" if unknown else ""
    return f"what radio or NIC add is in it{share}{missing}"


def _power_w(device: Device) -> tuple[float, float]:
    unknown = [name for name in ("idle_power_w", "busy_power_w") if getattr(device, name) is None]
    if device.idle_power_w is None or device.busy_power_w is None:
        raise BadInputError(
            f"objectives: energy needs {' and '.join(unknown)} of {device.name}, not known; expected figures and their"
            f" source in the profile devices/{device.name}.json, or objectives without energy"
        )
    return device.idle_power_w, device.busy_power_w
