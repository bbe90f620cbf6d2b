"""What every stage of every plan takes, in seconds, term by term (docs/model.md, "Calibration").

Blocks are what profiles say; the others are a calibration's and zero without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paretosim.calibration import DeviceTerms
from paretosim.chain import Hop
from paretosim.hop_terms import HopTerms
from paretosim.in_effect import holds_several, terms_in_effect

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

    from paretosim.setting import Setting

    Array = NDArray[np.float64]


class StageTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What all stages take, (…, plans, stages) seconds; γ·Σt is `blocks_s` and `scale_s` together.

    The last is zero in a pipeline that holds one batch only.
    """

    blocks_s: Array
    scale_s: Array
    overhead_s: Array
    launch_s: Array
    copies_s: Array
    contention_s: Array
    total_s: Array


def stage_terms(
    setting: Setting, splits: NDArray[np.int64], blocks_s: Array, hops: Sequence[Hop], transfers: HopTerms | None
) -> StageTerms:
    """What both stages take, from Σt (…, splits, 2), with these transfers beside them, or none.

    Source: docs/model.md, "Calibration".
    """
    ends = np.stack([np.zeros_like(splits), splits, np.full_like(splits, len(setting.model.blocks))])
    cut_bytes = np.array(setting.model.cut_bytes(), dtype=np.int64) * setting.batch
    calibration = terms_in_effect(setting)
    known = [calibration.of(device.name) for device in setting.devices]
    beside_s = None
    if transfers is not None and holds_several(setting.mode, setting.operation):
        beside_s = transfers.serialisation_s
    return stages_taking(known, blocks_s, ends, cut_bytes, hops, beside_s)


def stages_taking(
    known: Sequence[DeviceTerms], blocks_s: Array, ends: NDArray[np.int64], cut_bytes: NDArray[np.int64],
    hops: Sequence[Hop], beside_s: Array | None,
) -> StageTerms:  # fmt: skip
    """What all stages take, from Σt (…, plans, stages).

    An empty stage takes nothing. A stage is slowed by the transfers that its own device takes part in.

    Parameters
    ----------
    known : terms of the stages' devices.
    ends : (stages + 1, plans) cuts, both ends among them; stage k runs blocks [ends[k], ends[k + 1]).
    beside_s : (plans, hops) seconds of the transfers, None where a batch is alone.
    """
    # Filled in place: a fit calls this thousands of times, and np.stack takes several times as long for so little.
    filled = {name: np.empty(blocks_s.shape) for name in StageTerms.__struct_fields__}
    for k, (terms, beside) in enumerate(zip(known, hops_beside(hops), strict=True)):
        runs = ends[k + 1] > ends[k]
        blocks = blocks_s[..., k]
        scale = blocks * (terms.gamma - 1.0)
        overhead, launch, copies = (cost * runs for cost in fixed_s(terms, cut_bytes[ends[k]], cut_bytes[ends[k + 1]]))
        # So that γ = 1 is what it was to the last bit.
        alone = blocks * terms.gamma + overhead + launch + copies
        transfers_s = [] if beside_s is None else [beside_s[:, j] for j in beside]
        contention = contention_s(terms, alone, transfers_s)
        stage = (blocks, scale, overhead, launch, copies, contention, alone + contention)
        for column, seconds in zip(filled.values(), stage, strict=True):
            column[..., k] = seconds
    return StageTerms(**filled)


def hops_beside(hops: Sequence[Hop]) -> tuple[tuple[int, ...], ...]:
    """For each device in turn the places of the hops that its host takes part in.

    With a relay that is the receiving device's, and not the hop that comes to the master.
    """
    beside: list[list[int]] = [[]]
    ends = [j for j, hop in enumerate(hops) if not (hop.forward or hop.relayed)]
    for j, hop in enumerate(hops):
        if hop.forward:
            beside[-1].append(j)
            relayed = j + 1 < len(hops) and hops[j + 1].relayed
            beside.append([j + 1 if relayed else j])
    for k in {0, len(beside) - 1}:
        beside[k] = sorted([*beside[k], *ends])
    return tuple(map(tuple, beside))


def contention_s(known: DeviceTerms, alone_s: Array, beside_s: Iterable[Array]) -> Array:
    """What transfers of those lengths beside it add to a stage that takes `alone_s`: κ · Σ min(c, x)."""
    added = np.zeros_like(alone_s)
    if known.kappa:
        for transfer_s in beside_s:
            added = added + known.kappa * np.minimum(alone_s, transfer_s)
    return added


def lone_s(setting: Setting, index: int, total_s: Array) -> Array:
    """What one device takes that runs all blocks, Σt of any shape, with nothing beside it."""
    known = terms_in_effect(setting).of(setting.devices[index].name)
    input_bytes, *_, output_bytes = (size * setting.batch for size in setting.model.cut_bytes())
    return whole_model_s(known, total_s, input_bytes, output_bytes)


def whole_model_s(known: DeviceTerms, total_s: Array, input_bytes: int, output_bytes: int) -> Array:
    """What a device takes that runs all blocks, Σt of any shape, with nothing beside it."""
    overhead, launch, copies = fixed_s(known, np.array([input_bytes]), np.array([output_bytes]))
    return np.asarray(total_s * known.gamma + overhead + launch + copies)


def fixed_s(
    known: DeviceTerms, in_bytes: NDArray[np.int64], out_bytes: NDArray[np.int64]
) -> tuple[float, float, Array]:
    """Overhead, launch and copies of a stage that takes and gives so many bytes."""
    moved = np.asarray(in_bytes + out_bytes, dtype=np.float64)
    copies = np.zeros(moved.shape) if known.pcie_bytes_per_s is None else moved / known.pcie_bytes_per_s
    return known.overhead_s, known.launch_s, copies


def services_in_order(stages_s: Array, transfers: HopTerms, hops: Sequence[Hop]) -> tuple[Array, tuple[str, ...]]:
    """Service times of all stations in chain order, (plans, stations), and the stations' names."""
    columns: list[Array] = []
    names: list[str] = []
    receives = bool(transfers.receiving_s.any())
    last = max(j for j, hop in enumerate(hops) if hop.forward or hop.relayed)
    stages = enumerate(stages_s.T, start=1)

    def compute() -> None:
        number, time_s = next(stages)
        columns.append(time_s)
        names.append(f"stage{number}")

    for place, (hop, occupancy) in enumerate(zip(hops, transfers.occupied_s.T, strict=True)):
        if hop.forward:
            compute()
        columns.append(occupancy)
        names.append(hop.name)
        if receives:
            columns.append(transfers.receiving_s[:, place])
            names.append(f"{hop.name}.receive")
        if place == last:
            compute()
    return np.stack(columns, axis=1), tuple(names)
