"""What may be chosen, and what it costs: chains of devices, stages that fit and are allowed, links between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from paretosim.calibration import DeviceTerms
from paretosim.errors import BadInputError
from paretosim.hop_terms import Crossing, HopTerms, link_of_relay
from paretosim.in_effect import control_s, holds_several, less_terms, terms_in_effect
from paretosim.link import Link
from paretosim.placement.beside import Beside, told_apart
from paretosim.placement.crossings import closing_crossing, ending_s, forward_crossings, taken
from paretosim.placement.device_chains import Chains, Rules, chains
from paretosim.placement.limits import may_run
from paretosim.placement.search import Costs
from paretosim.placement.setting import PlacementSetting
from paretosim.stage_terms import contention_s, fixed_s
from paretosim.transfer_time import serialisation_s

Array = NDArray[np.float64]


def search_space(setting: PlacementSetting) -> tuple[Costs, Chains]:
    """All chains of devices that the setting allows, and what their stages and hops cost."""
    graph = _chains_of(setting)
    kinds = tuple(Beside(device) for device in range(len(setting.devices)))
    if _contends(setting) and len(graph):
        closing = closing_crossing(setting, 0, 0)
        graph, kinds = told_apart(
            graph,
            setting.links.forward,
            None if closing is None else setting.links.back,
        )
    return _costs_of(setting, kinds), graph


def _contends(setting: PlacementSetting) -> bool:
    """Whether transfers slow a stage of any device."""
    calibration = terms_in_effect(setting)
    return holds_several(setting.mode) and any(calibration.of(device.name).kappa for device in setting.devices)


def _chains_of(setting: PlacementSetting) -> Chains:
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


def _costs_of(setting: PlacementSetting, kinds: Sequence[Beside]) -> Costs:
    """Seconds of every stage, link and delay; infinite where memory, pins or forbids rule a stage out.

    Raises
    ------
    BadInputError : a time is too large for a number.
    """
    known = [terms_in_effect(setting).of(device.name) for device in setting.devices]
    hop, hop_delay, closing, closing_delay = _hops_s(setting)
    device_of = [kind.device for kind in kinds]
    block = np.array([np.array(times) * of.gamma for times, of in zip(setting.block_s, known, strict=True)])
    fixed = np.stack([_fixed_s(setting, of) for of in known])
    if not all(np.isfinite(times).all() for times in (hop, closing, block.sum(axis=1), fixed)):
        raise BadInputError(
            f"placement: a time is too large for a number at {setting.links.every.rate_bps:g} bit/s; expected faster"
            " links or shorter block times"
        )
    costs = Costs(
        block=block[device_of],
        more=fixed[device_of],
        possible=_possible(setting)[device_of],
        hop=hop,
        hop_delay=hop_delay,
        closing=closing,
        closing_delay=closing_delay,
        dispatch=control_s(setting),
    )
    added = np.stack([_beside_s(setting, kind, known[kind.device], costs.stage[k]) for k, kind in enumerate(kinds)])
    return dataclasses.replace(costs, more=costs.more + added)


def _possible(setting: PlacementSetting) -> NDArray[np.bool_]:
    """(d, N + 1, N + 1): whether device k may run blocks [i, j) as a stage."""
    count, blocks = len(setting.devices), len(setting.model.blocks)
    start, end = _ends(setting)
    possible = np.repeat(np.triu(np.ones((1, blocks + 1, blocks + 1), dtype=np.bool_), 1), count, axis=0)
    if start is not None and start != end:
        possible[start, 0, 0] = True
    if end is not None and start != end:
        possible[end, -1, -1] = True
    need = setting.memory_bytes
    allowed = may_run(count, blocks, setting.pins, setting.forbids)
    for index, device in enumerate(setting.devices):
        refused = np.array([0, *(~allowed[index]).cumsum()])
        possible[index] &= refused[None, :] == refused[:, None]
        if setting.within_memory:
            possible[index] &= need <= device.usable_bytes
    return possible


def _fixed_s(setting: PlacementSetting, known: DeviceTerms) -> Array:
    """(N + 1, N + 1) seconds of a stage beside its blocks, with nothing beside it; none where it is empty."""
    overhead, launch, copies = fixed_s(known, setting.cut_bytes[:, np.newaxis], setting.cut_bytes[np.newaxis, :])
    return np.triu(overhead + launch + copies, 1)


def _beside_s(setting: PlacementSetting, kind: Beside, known: DeviceTerms, alone_s: Array) -> Array:
    """(N + 1, N + 1) seconds that transfers beside it add to a stage of that kind; none where there is none."""
    cuts = np.arange(len(setting.cut_bytes))
    framing_bytes = terms_in_effect(setting).framing_bytes
    transfers: list[Array] = []

    def serialised_s(link: Link, cuts: NDArray[np.int64]) -> Array:
        return np.asarray(serialisation_s(setting.cut_bytes[cuts] + framing_bytes, less_terms(link, setting.without)))

    if kind.arriving is not None:
        relay = terms_in_effect(setting).relay
        link = kind.arriving if relay is None else link_of_relay(relay, kind.arriving)
        transfers.append(serialised_s(link, cuts)[:, np.newaxis])
    if kind.leaving is not None:
        transfers.append(serialised_s(kind.leaving, cuts)[np.newaxis, :])
    if kind.closing is not None:
        transfers.append(serialised_s(kind.closing, cuts[-1:] if setting.sink == "first" else cuts[:1]))
    return contention_s(known, np.where(np.isfinite(alone_s), alone_s, 0.0), transfers)


def _hops_s(setting: PlacementSetting) -> tuple[Array, Array, Array, Array]:
    """Stations and delay of every hop, (stations, d, d, N + 1) and (d, d), and of every way that closes a chain."""
    count = len(setting.devices)
    cuts = np.arange(len(setting.cut_bytes))
    relayed = terms_in_effect(setting).relay is not None
    hop, hop_delay = np.zeros((4 if relayed else 2, count, count, len(cuts))), np.zeros((count, count))
    closing, closing_delay = np.zeros((2, count, count)), np.zeros((count, count))
    # Most hops are of like links between like hosts.
    known: dict[tuple[tuple[object, ...], ...], HopTerms] = {}

    def terms_of(crossings: list[Crossing]) -> HopTerms:
        key = tuple((c.hop.name, *c[1:]) for c in crossings)
        if key not in known:
            known[key] = taken(setting, crossings)
        return known[key]

    for a in range(count):
        for b in range(count):
            closing_delay[a, b] = ending_s(setting, b, a)
            if a == b:
                continue
            found = terms_of(forward_crossings(setting, a, b, cuts))
            hop[:, a, b] = np.concatenate([found.occupied_s.T, found.receiving_s.T])
            hop_delay[a, b] = found.waits_s[0].sum()
            back = closing_crossing(setting, a, b)
            if back is not None:
                found = terms_of([back])
                closing[:, a, b] = found.occupied_s[0, 0], found.receiving_s[0, 0]
                closing_delay[a, b] += found.waits_s[0].sum()
    return hop, hop_delay, closing, closing_delay
