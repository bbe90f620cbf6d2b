"""Settings of profiles that come with the package."""

from __future__ import annotations

from typing import Any

from paretosim.link import shaped
from paretosim.profiles import ProfileStore
from paretosim.setting import Setting


def shipped(model: str = "vgg16", devices: tuple[str, str] = ("rpi4b", "rtx4090"), **options: Any) -> Setting:
    """A model over two devices and a link of 1 Gbit/s, every rate of which is one that something sets."""
    store = ProfileStore()
    one, two = devices
    gigabit = shaped(store.link("ethernet-1g"), rate_bps=1e9)
    return Setting(
        model=store.model(model),
        devices=(store.device(one), store.device(two)),
        timings=(store.timing(one, model), store.timing(two, model)),
        **{"link": gigabit, **options},
    )
