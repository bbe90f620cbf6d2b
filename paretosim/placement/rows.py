"""What one placement does, worked out as `predict` does a split, and its figures in any objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from paretosim import pipeline
from paretosim.chain import Hop
from paretosim.hop_terms import HopTerms
from paretosim.in_effect import control_s, holds_several, terms_in_effect
from paretosim.objectives import Figures, Objective
from paretosim.placement.crossings import crossings_of, ending_s, networks_of_j, on_wires_bytes, taken
from paretosim.placement.enumeration import energy_j_of
from paretosim.placement.search import Part, Point
from paretosim.placement.setting import PlacementSetting
from paretosim.plan import Plan, Stage
from paretosim.prediction import in_closed_form
from paretosim.stage_terms import services_in_order, stages_taking

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PlacementRow(msgspec.Struct, frozen=True, kw_only=True):
    """A placement on the front. `positions` are those of its devices, from 1.

    `links_s`, `stalls_s` and `delays_s` are in chain order and named by `hops`; `tied` are other placements of exactly
    equal latency and throughput, of which there are `ties` in all. What is a calibration's is as in a row of a
    prediction. Of energy, memory and bytes there is what the front is in.
    """

    plan: Plan
    positions: tuple[int, ...]
    latency_s: float
    throughput_per_s: float
    period_s: float
    bottleneck: str
    stages_s: tuple[float, ...]
    hops: tuple[str, ...]
    links_s: tuple[float, ...]
    stalls_s: tuple[float, ...]
    delays_s: tuple[float, ...]
    activation_bytes: tuple[int, ...]
    memory_bytes: tuple[int, ...]
    meets_constraints: bool
    ties: int = 0
    tied: tuple[Plan, ...] = ()
    latency_from_start_s: float | None = None
    sending_s: tuple[float, ...] | None = None
    receiving_s: tuple[float, ...] | None = None
    handovers_s: tuple[float, ...] | None = None
    answering_s: tuple[float, ...] | None = None
    energy_j_per_image: float | None = None
    network_j_per_image: float | None = None
    peak_memory_bytes: int | None = None
    wire_bytes_per_image: float | None = None


def row_of(setting: PlacementSetting, point: Point) -> PlacementRow:
    """A point's first placement, with times worked out as `predict` does."""
    parts, others = point.placements[0], point.placements[1:]
    crossings = crossings_of(setting, parts)
    hops = [crossing.hop for crossing in crossings]
    last_s = ending_s(setting, parts[0].device, parts[-1].device)
    transfers = taken(setting, crossings, last_s) if crossings else None
    stages_s = _stages_s(setting, parts, hops, transfers)
    services_s, stations, waits_s = _line(stages_s, hops, transfers, last_s)
    found = in_closed_form(setting, services_s, waits_s, stations, hops)
    latency_s, period_s = float(found.latency_s[0]), float(found.period_s[0])
    from_start_s = found.latency_from_start_s
    throughput = setting.batch / period_s
    return PlacementRow(
        plan=_plan(setting, parts),
        positions=tuple(part.device + 1 for part in parts),
        latency_s=latency_s,
        throughput_per_s=throughput,
        period_s=period_s,
        bottleneck=stations[int(pipeline.significant(services_s).argmax())],  # the first of equals
        stages_s=tuple(stages_s[0].tolist()),
        hops=tuple(hop.name for hop in hops),
        **_hop_times(setting, transfers, last_s),
        activation_bytes=tuple(int(setting.cut_bytes[part.last]) for part in parts[:-1]),
        memory_bytes=tuple(int(setting.memory_bytes[part.first, part.last]) for part in parts),
        meets_constraints=bool(setting.is_met(found.latency_s, np.array([throughput]))[0]),
        ties=point.count - 1,
        tied=tuple(_plan(setting, other) for other in others),
        latency_from_start_s=None if from_start_s is None else float(from_start_s[0]),
    )


def _line(
    stages_s: NDArray[np.float64], hops: Sequence[Hop], transfers: HopTerms | None, last_s: float
) -> tuple[NDArray[np.float64], tuple[str, ...], NDArray[np.float64]]:
    """Services of all stations with their names, and what a batch waits beside them; one device has no hops."""
    if transfers is None:
        return stages_s, ("stage1",), np.array([[last_s]])
    return *services_in_order(stages_s, transfers, hops), transfers.waits_s


def _hop_times(setting: PlacementSetting, transfers: HopTerms | None, last_s: float) -> dict[str, Any]:
    """What a row says of its hops; those of a calibration's terms only where it has such."""
    active = set(terms_in_effect(setting).active_terms())

    def row(name: str) -> tuple[float, ...]:
        return () if transfers is None else tuple(getattr(transfers, name)[0].tolist())

    dispatch_s = control_s(setting) - setting.control_delay_s
    return {
        "links_s": row("serialisation_s"),
        "stalls_s": row("stalls_s"),
        "delays_s": row("delays_s"),
        "sending_s": row("sender_s") if active & {"sending", "copying", "rpc"} else None,
        "receiving_s": row("receiving_s") if "receiving" in active else None,
        "handovers_s": (dispatch_s, *row("handover_s"), last_s)
        if active & {"dispatch", "handover", "returning"}
        else None,
        "answering_s": row("answering_s") if "answers" in active else None,
    }


def _stages_s(
    setting: PlacementSetting, parts: Sequence[Part], hops: Sequence[Hop], transfers: HopTerms | None = None
) -> NDArray[np.float64]:
    """(1, stages) seconds of a placement's stages, all terms included."""
    calibration = terms_in_effect(setting)
    beside_s = None if transfers is None or not holds_several(setting.mode) else transfers.serialisation_s
    return stages_taking(
        [calibration.of(setting.devices[part.device].name) for part in parts],
        np.array([[math.fsum(setting.block_s[part.device][part.first : part.last]) for part in parts]]),
        np.array([[0], *([part.last] for part in parts)]),
        setting.cut_bytes,
        hops,
        beside_s,
    ).total_s


def with_figures(
    setting: PlacementSetting, row: PlacementRow, parts: Sequence[Part], objectives: Sequence[Objective]
) -> PlacementRow:
    """The row with what it has of these objectives beside latency and throughput."""
    names = {objective.name for objective in objectives}
    changes: dict[str, Any] = {}
    if "energy" in names:
        drawn_j = energy_j_of(
            setting, [part.device for part in parts], np.array([row.stages_s]), np.array([row.period_s])
        )
        added_j = networks_of_j(setting, parts)
        changes["energy_j_per_image"] = float(pipeline.significant((drawn_j + added_j) / setting.batch)[0])
        changes["network_j_per_image"] = added_j / setting.batch
    if "memory" in names:
        changes["peak_memory_bytes"] = max(row.memory_bytes)
    if "bytes" in names:
        crossings = crossings_of(setting, parts)
        sent = on_wires_bytes(setting, crossings) / setting.batch if crossings else np.zeros(1)
        changes["wire_bytes_per_image"] = float(pipeline.significant(sent)[0])
    return msgspec.structs.replace(row, **changes)


def figures_of(setting: PlacementSetting, row: PlacementRow) -> Figures:
    """The row in every objective, of energy, memory and bytes those that it has."""
    return Figures(
        image_latency_s=setting.image_latency_s(row.latency_s),
        throughput_per_s=row.throughput_per_s,
        energy_j_per_image=row.energy_j_per_image,
        network_j_per_image=row.network_j_per_image,
        peak_memory_bytes=row.peak_memory_bytes,
        wire_bytes_per_image=row.wire_bytes_per_image,
    )


def _plan(setting: PlacementSetting, parts: Sequence[Part]) -> Plan:
    stages = tuple(Stage(setting.devices[part.device].name, part.first, part.last) for part in parts)
    return Plan(
        model=setting.model.name,
        stages=stages,
        batch=setting.batch,
        window=setting.mode.window,
        backend=setting.backend,
    )
