"""What is in effect of a setting: its calibration, link and state of connections, less what is switched off."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np

from paretosim.calibration import NEUTRAL, Backend, Calibration, Term, check_terms
from paretosim.errors import BadInputError, UnlikeConditionsError
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Operation
from paretosim.transfer_time import TcpState

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    from paretosim.device import Device

    Array = NDArray[np.float64]

# A window beyond any message, whose products with segments are still exact in 64 bits.
NO_WINDOW_BYTES = 2**48


class Termed(Protocol):
    """What says which terms are in effect: a setting of two devices, or of several."""

    @property
    def devices(self) -> tuple[Device, ...]: ...
    @property
    def tcp_state(self) -> TcpState: ...
    @property
    def backend(self) -> Backend: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def without(self) -> tuple[Term, ...]: ...
    @property
    def control_delay_s(self) -> float: ...


class OverOneLink(Termed, Protocol):
    """A setting whose devices are joined by one link."""

    @property
    def link(self) -> Link: ...


def terms_in_effect(setting: Termed) -> Calibration:
    """The setting's calibration less what is switched off; the neutral one where there is none."""
    calibration = NEUTRAL if setting.calibration is None else setting.calibration
    return calibration.without(*setting.without) if setting.without else calibration


def check_calibration(setting: Termed) -> None:
    """Refuse a calibration of another backend, or of an accelerator that a device does not have.

    Raises
    ------
    BadInputError, UnlikeConditionsError : say which, and what was expected.
    """
    check_terms(setting.without)
    calibration = setting.calibration
    if calibration is None:
        if setting.backend == "rpc":
            raise BadInputError(
                "backend: got rpc without a calibration, so that its round trips are not known; expected one of rpc,"
                " such as --calibration FILE"
            )
        return
    if calibration.backend != setting.backend:
        raise UnlikeConditionsError(
            f"calibration {calibration.name!r}: got one of backend {calibration.backend}, expected one of"
            f" {setting.backend}, as the plan; give --backend {calibration.backend}, or another calibration"
        )
    for device in setting.devices:
        known = calibration.of(device.name)
        if device.accelerator is None and (known.launch_s or known.pcie_bytes_per_s is not None):
            raise BadInputError(
                f"calibration {calibration.name!r}: got launch_s or pcie_bytes_per_s of {device.name}, expected them of"
                " devices with an accelerator only; put the accelerator into the device's profile, or leave them out"
            )


def link_in_effect(setting: OverOneLink) -> tuple[Link, TcpState]:
    """The setting's link and state of connection, less what is switched off (but for the delay itself)."""
    return less_terms(setting.link, setting.without), tcp_state_in_effect(setting)


def less_terms(link: Link, without: Collection[Term]) -> Link:
    """The link less those of its terms (but for the delay itself)."""
    changes: dict[str, int] = {}
    if "headers" in without:
        changes["header_bytes"] = 0
    if "window-cap" in without:
        changes["wmax_bytes"] = NO_WINDOW_BYTES
    return msgspec.structs.replace(link, **changes) if changes else link


def tcp_state_in_effect(setting: Termed) -> TcpState:
    """The state of connections, warm where slow start is switched off."""
    return "warm" if "slow-start" in setting.without else setting.tcp_state


def control_s(setting: Termed) -> float:
    """From a dispatch until the first station of the line has the batch."""
    return setting.control_delay_s + terms_in_effect(setting).dispatch_s


def holds_several(mode: Mode, operation: Operation = Operation()) -> bool:  # noqa: B008  # frozen
    """Whether a batch is ever computed while another one is on its way, so that they can be in each other's."""
    in_flight = {"single": 1, "closed": mode.window, "burst": mode.batches}.get(mode.name)
    return in_flight != 1 and operation.batches != 1
