"""What a prediction rests on, in a line each: its conditions, and how its timings are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretosim.units import format_duration, format_rate

if TYPE_CHECKING:
    from paretosim.prediction import Prediction


def conditions(prediction: Prediction) -> str:
    """Devices, link and load."""
    return f"{devices_and_link(prediction)}, {load(prediction)}"


def devices_and_link(prediction: Prediction) -> str:
    """For example `rpi4b → rpi4b on paper-duress (5mbit, 200ms)`."""
    link = prediction.setting.link
    shown = f"{format_rate(link.rate_bps)}, {format_duration(link.one_way_delay_s)}"
    name = shown if link.name == shown.replace(", ", ",") else f"{link.name} ({shown})"
    return f"{' → '.join(device.name for device in prediction.setting.devices)} on {name}"


def load(prediction: Prediction) -> str:
    """How batches are fed, and which splits are compared: `batch 8, mode paced, all splits`."""
    setting = prediction.setting
    said = [f"batch {setting.batch}", f"mode {setting.mode}", f"{setting.splits} splits"]
    said += [f"TCP {setting.tcp_state}"] if setting.tcp_state != "warm" else []
    said += [f"source {setting.source}"] if setting.source != "stage1" else []
    said += [f"sink {setting.sink}"] if setting.sink != "last" else []
    operation = setting.operation
    said += [f"{operation.workers} workers"] if operation.workers != "overlapped" else []
    said += [f"{operation.slots} slots before a station"] if operation.slots is not None else []
    said += [f"a run of {operation.batches} batches"] if operation.batches is not None else []
    said += ["clock from the start of stage 1"] if operation.clock == "stage1" else []
    return ", ".join(said)


def timings(prediction: Prediction) -> str:
    """Kinds of the timings and the error of stage times made from them; the same device twice is named once."""
    kinds = dict.fromkeys(
        f"{device.name} {kind}"
        for device, kind in zip(prediction.setting.devices, prediction.timing_kinds, strict=True)
    )
    error = "unknown" if prediction.profile_error is None else f"{prediction.profile_error:.1%}"
    return f"timings: {', '.join(kinds)}; error of stage times {error}"
