"""What may be chosen, and what it costs: chains of devices, stages that fit and are allowed, links between them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.memory import all_stages_memory_bytes
from paretosim.placement.device_chains import Chains, Rules, chains
from paretosim.placement.limits import may_run
from paretosim.placement.search import Costs
from paretosim.placement.setting import PlacementSetting
from paretosim.transfer_time import serialisation_s, stall_s


def chains_of(setting: PlacementSetting) -> Chains:
    """All chains of devices that the setting allows."""
    count = len(setting.devices)
    start, end = _ends(setting)
    closes = setting.sink == "first" or setting.source == "sink"
    allowed = may_run(count, len(setting.model.blocks), setting.pins, setting.forbids)
    rules = Rules(
        any_order=setting.order == "any",
        usable=np.asarray(allowed.any(axis=1)),
        alike=_alike(setting, allowed, {start, end}),
        exclusive=np.array([setting.overhead_bound(device) for device in range(count)]),
        longest=min(setting.max_devices or count, count),
        start=start,
        end=end,
        remember_start=closes and start is None,
    )
    return chains(rules)


def _ends(setting: PlacementSetting) -> tuple[int | None, int | None]:
    """Devices that every chain begins and ends with, even where they run no block; None for any."""
    if setting.ends == "free":
        return None, None
    last = len(setting.devices) - 1
    return 0, last if setting.sink == "last" or last == 0 else None


def unjudged_pairs(setting: PlacementSetting) -> tuple[tuple[int, int], ...]:
    """Pairs of positions (from 1) that no chain has both of: their timings do not tell how to share out blocks."""
    bound = [device + 1 for device in range(len(setting.devices)) if setting.overhead_bound(device)]
    return tuple(combinations(bound, 2))


def _alike(setting: PlacementSetting, allowed: NDArray[np.bool_], apart: set[int | None]) -> tuple[int, ...]:
    """For each device the first that it can be exchanged with: same profile, timing, limits and links."""
    devices = range(len(setting.devices))

    def exchangeable(a: int, b: int) -> bool:
        if a in apart or b in apart or (allowed[a] != allowed[b]).any():
            return False
        if (setting.devices[a], setting.timings[a]) != (setting.devices[b], setting.timings[b]):
            return False
        swap = {a: b, b: a}
        hops = [(one, two) for one in devices for two in devices if one != two and {one, two} & {a, b}]
        return all(
            link(one, two) == link(swap.get(one, one), swap.get(two, two))
            for link in (setting.links.forward, setting.links.back)
            for one, two in hops
        )

    return tuple(next((a for a in range(b) if exchangeable(a, b)), b) for b in devices)


def costs_of(setting: PlacementSetting) -> Costs:
    """Seconds of every stage, link and delay; infinite where memory, pins or forbids rule a stage out.

    Raises
    ------
    BadInputError : a time is too large for a number.
    """
    count, blocks = len(setting.devices), len(setting.model.blocks)
    possible = np.repeat(np.triu(np.ones((1, blocks + 1, blocks + 1), dtype=np.bool_), 1), count, axis=0)
    start, end = _ends(setting)
    if start is not None and start != end:
        possible[start, 0, 0] = True
    if end is not None and start != end:
        possible[end, -1, -1] = True
    need = all_stages_memory_bytes(setting.model, setting.batch)
    allowed = may_run(count, blocks, setting.pins, setting.forbids)
    for index, device in enumerate(setting.devices):
        refused = np.array([0, *(~allowed[index]).cumsum()])
        possible[index] &= refused[None, :] == refused[:, None]
        if setting.within_memory:
            possible[index] &= need <= device.usable_bytes
    hop = np.zeros((count, count, blocks + 1))
    hop_delay, closing, closing_delay = np.zeros((3, count, count))
    closing_bytes = None
    if setting.sink == "first":
        closing_bytes = setting.cut_bytes[-1]
    elif setting.source == "sink":
        closing_bytes = setting.cut_bytes[0]
    occupied: dict[Link, NDArray[np.float64]] = {}
    for a in range(count):
        for b in range(count):
            if a == b:
                continue
            link = setting.links.forward(a, b)
            if link not in occupied:
                occupied[link] = _occupied_s(setting, setting.cut_bytes, link)
            hop[a, b], hop_delay[a, b] = occupied[link], link.one_way_delay_s
            if closing_bytes is not None:
                back = setting.links.back(a, b)
                closing[a, b] = float(_occupied_s(setting, closing_bytes, back))
                closing_delay[a, b] = back.one_way_delay_s
    if not all(np.isfinite(times).all() for times in (hop, closing, np.sum(setting.block_s, axis=1))):
        raise BadInputError(
            f"placement: a time is too large for a number at {setting.links.every.rate_bps:g} bit/s; expected faster"
            " links or shorter block times"
        )
    return Costs(
        block=np.array(setting.block_s, dtype=np.float64),
        possible=possible,
        hop=hop,
        hop_delay=hop_delay,
        closing=closing,
        closing_delay=closing_delay,
        dispatch=setting.control_delay_s,
    )


def _occupied_s(setting: PlacementSetting, payload: NDArray[np.int64] | int, link: Link) -> NDArray[np.float64]:
    return np.asarray(serialisation_s(payload, link) + stall_s(payload, link, setting.tcp_state))
