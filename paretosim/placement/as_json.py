"""A front over several devices as the JSON object and CSV rows of `paretosim plan` (docs/formats.md)."""

from __future__ import annotations

from typing import Any

import msgspec

from paretosim.energy import unknown_networks
from paretosim.indented_json import indented_json
from paretosim.placement.placing import Best, Placement
from paretosim.placement.resolution import indistinguishable
from paretosim.placement.rows import PlacementRow
from paretosim.placement.verdict import placement_verdict
from paretosim.profiles import identity
from paretosim.show.result_json import (
    basis_fields,
    constraint_fields,
    csv_lines,
    ends_fields,
    link_object,
    load_fields,
    terms_identity,
    versions,
)
from paretosim.tabular import fields_of, flat_rows

SCHEMA_VERSION = 1


def placement_as_json(placement: Placement) -> bytes:
    """The front as one JSON object, indented, with a final newline."""
    return indented_json(placement_as_object(placement))


def placement_as_object(placement: Placement) -> dict[str, Any]:
    """The front as plain dictionaries, lists and numbers; devices by name, and by position from 1."""
    setting = placement.setting
    asks_energy = any(objective.name == "energy" for objective in placement.objectives)
    recommended: dict[str, str | None] = _plans(placement.recommended)
    for objective in placement.objectives:
        best = placement.best(objective)
        recommended.setdefault(objective.name, None if best is None else str(best.plan))
    return {
        "schema_version": SCHEMA_VERSION,
        **load_fields(setting),
        **ends_fields(setting),
        "objectives": [objective.name for objective in placement.objectives],
        **({"network_power_unknown": unknown_networks(setting.devices)} if asks_energy else {}),
        "order": setting.order,
        "ends": setting.ends,
        "link": link_object(setting.links.every),
        "own_links": [
            {"from": one + 1, "to": two + 1, **link_object(link)} for (one, two), link in setting.links.own.items()
        ],
        **basis_fields(placement),
        "constraints": {
            "max_devices": setting.max_devices,
            "pins": [
                {"block": setting.model.blocks[pin.block].name, "devices": [device + 1 for device in pin.devices]}
                for pin in setting.pins
            ],
            "forbids": [
                {
                    "devices": [device + 1 for device in forbid.devices],
                    "blocks": [setting.model.blocks[block].name for block in forbid.blocks],
                }
                for forbid in setting.forbids
            ],
            **constraint_fields(setting),
        },
        "versions": versions(),
        "identity": _identity(placement),
        "seed": None,
        "baselines": [msgspec.to_builtins(baseline) for baseline in placement.alone],
        "two_devices": _plans(placement.by_two),
        "unjudged": [list(pair) for pair in placement.unjudged],
        "obstacle": placement.obstacle,
        "rows": [placement_row_object(row) for row in placement.rows],
        "recommended": {**recommended, "verdict": placement_verdict(placement)},
        "indistinguishable": {
            "latency": _alike(placement, placement.recommended.latency, "latency"),
            "throughput": _alike(placement, placement.recommended.throughput, "throughput"),
        },
    }


def placement_row_object(row: PlacementRow) -> dict[str, Any]:
    """One placement as a plain dictionary, its plans as they print; without what its mode and calibration have not."""
    return fields_of(row) | {"plan": str(row.plan), "tied": [str(plan) for plan in row.tied]}


def placement_as_csv(placement: Placement) -> str:
    """One line per placement; lists become numbered columns, as many as the longest chain has."""
    rows = flat_rows([placement_row_object(row) for row in placement.rows])
    lines = csv_lines(rows) if rows else ["plan,latency_s,throughput_per_s"]
    return "\n".join(lines) + "\n"


def _plans(best: Best) -> dict[str, str | None]:
    chosen = {"latency": best.latency, "throughput": best.throughput, "knee": best.knee}
    return {objective: None if row is None else str(row.plan) for objective, row in chosen.items()}


def _alike(placement: Placement, row: PlacementRow | None, objective: str) -> list[str] | None:
    found = indistinguishable(placement, row, objective)
    return None if found is None else [str(other.plan) for other in found]


def _identity(placement: Placement) -> str:
    """Hash of all inputs: equal fronts come from equal inputs."""
    setting = placement.setting
    own = [[*hop, link] for hop, link in sorted(setting.links.own.items())]
    parameters = msgspec.json.encode(
        [
            setting.batch, setting.mode, setting.order, setting.ends, setting.max_devices, setting.pins,
            setting.forbids, setting.source, setting.sink, setting.tcp_state, setting.control_delay_s,
            setting.max_latency_s, setting.min_throughput_per_s, setting.frame_rate_per_s, setting.within_memory, own,
            [objective.name for objective in placement.objectives],
        ]
    )  # fmt: skip
    values = (setting.model, *setting.devices, *setting.timings, setting.links.every, *terms_identity(setting))
    return identity(*values, parameters.decode())
