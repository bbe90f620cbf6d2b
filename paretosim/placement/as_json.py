"""A front over several devices as the JSON object and CSV rows of `paretosim plan` (docs/formats.md)."""

from __future__ import annotations

import csv
import io
import platform
from typing import Any

import msgspec
import numpy as np

from paretosim import __version__
from paretosim.energy import unknown_networks
from paretosim.link import Link
from paretosim.placement.placing import Best, Placement
from paretosim.placement.resolution import indistinguishable
from paretosim.placement.rows import PlacementRow
from paretosim.placement.verdict import placement_verdict
from paretosim.profiles import identity
from paretosim.show.prediction_json import calibration_object, terms_identity

SCHEMA_VERSION = 1
# What a row has in some modes, with some calibrations, or in some objectives only.
OPTIONAL_FIELDS = (
    "latency_from_start_s", "sending_s", "receiving_s", "handovers_s", "answering_s", "energy_j_per_image",
    "network_j_per_image", "peak_memory_bytes", "wire_bytes_per_image",
)  # fmt: skip
_LINK_FIELDS = (
    "name", "rate_bps", "one_way_delay_s", "return_rate_bps", "return_delay_s", "header_bytes", "mss_bytes",
    "wmax_bytes",
)  # fmt: skip


def placement_as_json(placement: Placement) -> bytes:
    """The front as one JSON object, indented, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(placement_as_object(placement)), indent=1) + b"\n"


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
        "model": setting.model.name,
        "mode": setting.mode.name,
        "batch": setting.batch,
        "backend": setting.backend,
        "window": setting.mode.window,
        "burst_batches": setting.mode.batches,
        "source": setting.source,
        "sink": setting.sink,
        "tcp_state": setting.tcp_state,
        "objectives": [objective.name for objective in placement.objectives],
        **({"network_power_unknown": unknown_networks(setting.devices)} if asks_energy else {}),
        "order": setting.order,
        "ends": setting.ends,
        "link": _link(setting.links.every),
        "own_links": [
            {"from": one + 1, "to": two + 1, **_link(link)} for (one, two), link in setting.links.own.items()
        ],
        "devices": [device.name for device in setting.devices],
        "timing_kinds": list(placement.timing_kinds),
        "profile_error": placement.profile_error,
        "profile_errors": [msgspec.to_builtins(timing.error) for timing in setting.timings],
        "calibration": calibration_object(setting),
        **({"without": list(setting.without)} if setting.without else {}),
        "control_delay_s": setting.control_delay_s,
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
            "max_latency_s": setting.max_latency_s,
            "min_throughput_per_s": setting.min_throughput_per_s,
            "frame_rate_per_s": setting.frame_rate_per_s,
        },
        "versions": {"paretosim": __version__, "numpy": np.__version__, "python": platform.python_version()},
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
    fields: dict[str, Any] = msgspec.to_builtins(row)
    fields["plan"], fields["tied"] = str(row.plan), [str(plan) for plan in row.tied]
    for name in OPTIONAL_FIELDS:
        if fields[name] is None:
            del fields[name]
    return fields


def placement_as_csv(placement: Placement) -> str:
    """One line per placement; lists become numbered columns, as many as the longest chain has."""
    rows = [placement_row_object(row) for row in placement.rows]
    lists = (
        {key: max(len(row[key]) for row in rows) for key, value in rows[0].items() if _is_list(value)} if rows else {}
    )
    columns = [
        column
        for key in (rows[0] if rows else ())
        for column in ([f"{key}[{index}]" for index in range(1, lists[key] + 1)] if key in lists else [key])
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or ["plan", "latency_s", "throughput_per_s"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat: dict[str, Any] = {}
        for key, value in row.items():
            if key in lists:
                flat |= {f"{key}[{index}]": entry for index, entry in enumerate(value, start=1)}
            else:
                flat[key] = str(value).lower() if isinstance(value, bool) else value
        writer.writerow(flat)
    return text.getvalue()


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _plans(best: Best) -> dict[str, str | None]:
    chosen = {"latency": best.latency, "throughput": best.throughput, "knee": best.knee}
    return {objective: None if row is None else str(row.plan) for objective, row in chosen.items()}


def _alike(placement: Placement, row: PlacementRow | None, objective: str) -> list[str] | None:
    found = indistinguishable(placement, row, objective)
    return None if found is None else [str(other.plan) for other in found]


def _link(link: Link) -> dict[str, Any]:
    return {field: getattr(link, field) for field in _LINK_FIELDS}


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
