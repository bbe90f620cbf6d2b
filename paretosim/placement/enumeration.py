"""All placements one by one, for fronts in more than latency and period (docs/model.md, "Fronts in other objectives").

Energy is a sum of what each stage draws plus the period times what all devices of the chain draw idle: labels that
order it would have to keep latency, period, both parts of energy, memory and bytes apart, and would hardly ever be
pruned. So every placement is costed, as arrays over the cuts of one chain of devices, and whatever is clearly worse
than another one is dropped at once. What is left is compared exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paretosim import pareto
from paretosim.energy import energy_j
from paretosim.errors import BadInputError
from paretosim.objectives import Objective
from paretosim.pipeline import in_mode
from paretosim.placement.crossings import closing_crossing, forward_crossings, networks_j, on_wires_bytes
from paretosim.placement.device_chains import Chains
from paretosim.placement.search import Costs, Part
from paretosim.placement.setting import PlacementSetting

Array = NDArray[np.float64]

# A second or a few, and some hundred megabytes.
MAX_PLACEMENTS = 1_000_000
# Costs closer than this, relatively, are left to the exact comparison: sums in another order differ in their last bits.
_MARGIN = 1e-9
# Placements that are compared with the best so far at once.
_CHUNK = 2**14


class _Placements(NamedTuple):
    """Placements over one chain: their cuts (n, stages), and figures of shape (n,)."""

    devices: tuple[int, ...]
    cuts: NDArray[np.int64]
    unloaded_s: Array
    slowest_s: Array
    busy_s: Array  # (n, stages)
    memory_bytes: Array
    wire_bytes: Array
    network_j: Array


def candidates(
    setting: PlacementSetting, costs: Costs, chains: Chains, objectives: Sequence[Objective]
) -> list[tuple[Part, ...]]:
    """Every placement that no other one is clearly better than: all of the front, and what differs by roundings only.

    Raises
    ------
    BadInputError : more placements than can be compared, or a device without figures for power.
    """
    count = _count(costs, chains)
    if count > MAX_PLACEMENTS:
        raise BadInputError(
            f"objectives: got {count:.3g} placements, expected {MAX_PLACEMENTS} at most for a front in"
            f" {_named(objectives)}: other than in latency and throughput they have to be gone through one by one. Give"
            " fewer devices, --max-devices or pins, or ask for latency,throughput"
        )
    pool, pool_costs = [], np.empty((0, len(objectives)))
    for nodes in _paths(chains):
        found = _placements(setting, costs, chains, nodes)
        values = np.stack([_costs(setting, found, objective) for objective in objectives], axis=1)
        for first in range(0, len(values), _CHUNK):
            part = values[first : first + _CHUNK]
            kept = np.flatnonzero(~pareto.are_dominated(part, pool_costs, _MARGIN)) + first
            pool += [_parts(found.devices, found.cuts[index]) for index in kept.tolist()]
            pool_costs = np.concatenate([pool_costs, values[kept]])
            still = ~pareto.are_dominated(pool_costs, pool_costs[pareto.is_nondominated(pool_costs)], _MARGIN)
            pool = [one for one, keep in zip(pool, still.tolist(), strict=True) if keep]
            pool_costs = pool_costs[still]
    return pool


def _named(objectives: Sequence[Objective]) -> str:
    return ", ".join(objective.name for objective in objectives)


def _count(costs: Costs, chains: Chains) -> float:
    """How many placements there are, as a float: it may be more than any integer of 64 bits."""
    possible = np.isfinite(costs.stage)
    departed = np.zeros((len(chains), possible.shape[1]))
    total = 0.0
    for node, kind in enumerate(chains.kind.tolist()):
        arrived = departed[list(chains.before[node])].sum(axis=0)
        arrived[0] += chains.begins[node]
        departed[node] = arrived @ possible[kind]
        total += departed[node, -1] * chains.ends[node]
    return total


def _paths(chains: Chains) -> Iterator[tuple[int, ...]]:
    """Every chain of devices as nodes, first to last."""

    def back(node: int) -> Iterator[tuple[int, ...]]:
        if chains.begins[node]:
            yield (node,)
        for previous in chains.before[node]:
            yield from ((*way, node) for way in back(previous))

    for node in np.flatnonzero(chains.ends).tolist():
        yield from back(node)


def _placements(setting: PlacementSetting, costs: Costs, chains: Chains, nodes: Sequence[int]) -> _Placements:
    """All ways to cut the model over one chain."""
    devices = tuple(int(chains.device[node]) for node in nodes)
    blocks = costs.stage.shape[1] - 1
    cuts = np.zeros((1, 0), dtype=np.int64)
    at = np.zeros(1, dtype=np.int64)
    unloaded = np.full(1, costs.dispatch)
    slowest, memory, sent, added = np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1)
    busy = np.zeros((1, 0))
    for place, node in enumerate(nodes):
        stage = costs.stage[chains.kind[node]]
        allowed = np.isfinite(stage[at])
        if place == len(nodes) - 1:
            allowed[:, :blocks] = False
        rows, last = np.nonzero(allowed)
        taken = stage[at[rows], last]
        need = setting.memory_bytes[at[rows], last]
        cuts = np.concatenate([cuts[rows], last[:, np.newaxis]], axis=1)
        busy = np.concatenate([busy[rows], taken[:, np.newaxis]], axis=1)
        unloaded, slowest = unloaded[rows] + taken, np.maximum(slowest[rows], taken)
        sent, added = sent[rows], added[rows]
        memory, at = np.maximum(memory[rows], need), last
        if place + 1 < len(nodes):
            pair = devices[place], devices[place + 1]
            hop = costs.hop[:, *pair, :]
            unloaded = unloaded + hop.sum(axis=0)[at] + costs.hop_delay[pair]
            slowest = np.maximum(slowest, hop.max(axis=0)[at])
            crossings = forward_crossings(setting, *pair, np.arange(blocks + 1))
            sent = sent + on_wires_bytes(setting, crossings)[at]
            added = added + networks_j(setting, crossings, *pair)[at]
    ends = devices[-1], devices[0]
    closing = closing_crossing(setting, *ends) if len(devices) > 1 else None
    return _Placements(
        devices,
        cuts,
        unloaded + costs.closing[:, *ends].sum() + costs.closing_delay[ends],
        np.maximum(slowest, costs.closing[:, *ends].max()),
        busy,
        memory,
        sent if closing is None else sent + on_wires_bytes(setting, [closing])[0],
        added if closing is None else added + networks_j(setting, [closing], *ends)[0],
    )


def _costs(setting: PlacementSetting, found: _Placements, objective: Objective) -> Array:
    """One objective of all these placements, to be minimised and never below zero: a rate is its period."""
    latency_s, period_s = in_mode(found.unloaded_s, found.slowest_s, setting.mode)
    if objective.name == "latency":
        return latency_s
    if objective.name == "throughput":
        return period_s
    if objective.name == "energy":
        return energy_j_of(setting, found.devices, found.busy_s, period_s) + found.network_j
    return found.memory_bytes if objective.name == "memory" else found.wire_bytes


def energy_j_of(setting: PlacementSetting, devices: Sequence[int], busy_s: Array, period_s: Array) -> Array:
    """Joules of a batch over the devices of a chain, without what networks add; a slower camera sets the interval."""
    interval_s = period_s
    if setting.frame_rate_per_s is not None:
        interval_s = np.maximum(period_s, setting.batch / setting.frame_rate_per_s)
    return energy_j([setting.devices[device] for device in devices], busy_s, interval_s)


def _parts(devices: Sequence[int], cuts: NDArray[np.int64]) -> tuple[Part, ...]:
    ends = [0, *cuts.tolist()]
    return tuple(Part(device, ends[k], ends[k + 1]) for k, device in enumerate(devices))
