"""The profile of the device itself, which `hwrun profile` writes beside its timings where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

from hwrun.errors import BadUsageError
from hwrun.machine import steady
from hwrun.records import ComputeDevice
from paretosim.device import Device
from paretosim.errors import ProfileError
from paretosim.profiles import read_profile

APPLE_GPU = "Apple GPU"  # torch says no more of it


def describe_device(name: str, computes_on: ComputeDevice, title: str | None) -> Device:
    """This host as a device of that name, with what is in use now as reserved: before a model takes memory.

    Parameters
    ----------
    title : one for where none is given names cores, processor and accelerator.
    """
    import psutil
    import torch

    cores = len(steady.usable_cores())
    accelerator: str | None
    if computes_on == "cuda":
        accelerator = torch.cuda.get_device_name()
        free_bytes, memory_bytes = torch.cuda.mem_get_info()
        sources = {"memory_bytes": "the accelerator's, as its driver says"}
    else:
        accelerator = None if computes_on == "cpu" else APPLE_GPU
        memory = psutil.virtual_memory()
        free_bytes, memory_bytes = memory.available, memory.total
        shared = ", which the accelerator computes in too" if accelerator else ""
        sources = {"memory_bytes": f"main memory{shared}, as the system says"}
    processor = f"{cores} core{'s' if cores > 1 else ''} of {steady.cpu_model() or 'unknown CPU'}"
    return Device(
        schema_version=1,
        name=name,
        title=title or (f"{processor} with {accelerator}" if accelerator else processor),
        cores=cores,
        memory_bytes=memory_bytes,
        reserved_bytes=memory_bytes - free_bytes,
        accelerator=accelerator,
        sources={
            "cores": "those that hwrun profile was allowed to use",
            **sources,
            "reserved_bytes": "what was in use when hwrun profile had loaded torch and no model",
            "idle_power_w": "not measured",
            "busy_power_w": "not measured",
        },
    )


def keeps_device(path: Path, device: Device, *, replace: bool, is_titled: bool = False) -> bool:
    """Whether a profile is there that stays: of the same cores and accelerator, whatever else a user gave in it.

    Parameters
    ----------
    replace : write it anew where it is of others, or damaged, or a title was given (`is_titled`).

    Raises
    ------
    BadUsageError : one is there that is of others, and is not to be replaced.
    """
    if not path.exists():
        return False
    try:
        there = read_profile(path, Device)
    except ProfileError as error:
        if not replace:
            raise
        print(f"{error}: is replaced", file=sys.stderr)
        return False
    pairs = {
        "cores": (there.cores or device.cores, device.cores),
        "accelerator": (there.accelerator, device.accelerator),
    }
    unlike = "; ".join(f"{name}: there {old!r}, here {new!r}" for name, (old, new) in pairs.items() if old != new)
    if replace and (unlike or is_titled):
        print(f"{path}: is replaced{f' ({unlike})' if unlike else ''}", file=sys.stderr)
        return False
    if not unlike:
        return True
    raise BadUsageError(
        f"{path}: is of another device ({unlike}), expected the one that is measured, whose memory and cores it is to"
        " say; give another --device-name or -o, or lose what it has with --replace"
    )
