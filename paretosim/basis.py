"""What a prediction rests on, in a line each: its conditions, and how its timings are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretosim.units import format_duration, format_rate

if TYPE_CHECKING:
    from paretosim.prediction import Prediction


def conditions(prediction: Prediction) -> str:
    """Devices and link, and how batches are fed.

    For example `rpi4b → rpi4b on paper-duress (5mbit, 200ms), batch 8, mode paced`.
    """
    setting = prediction.setting
    link = setting.link
    shown = f"{format_rate(link.rate_bps)}, {format_duration(link.one_way_delay_s)}"
    name = shown if link.name == shown.replace(", ", ",") else f"{link.name} ({shown})"
    cold = "" if setting.tcp_state == "warm" else f", TCP {setting.tcp_state}"
    return (
        f"{' → '.join(device.name for device in setting.devices)} on {name}, batch {setting.batch},"
        f" mode {setting.mode}{cold}"
    )


def timings(prediction: Prediction) -> str:
    """Kinds of the timings and the error of stage times made from them; the same device twice is named once."""
    kinds = dict.fromkeys(
        f"{device.name} {kind}"
        for device, kind in zip(prediction.setting.devices, prediction.timing_kinds, strict=True)
    )
    error = "unknown" if prediction.profile_error is None else f"{prediction.profile_error:.1%}"
    return f"timings: {', '.join(kinds)}; error of stage times {error}"
